//! The stores on disk.
