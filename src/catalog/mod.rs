//! Checked, framed, immutable snapshots of a cache.
