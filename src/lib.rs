//! `js5d` serves a game cache over JS5.

pub mod cache;
pub mod catalog;
pub mod protocol;
