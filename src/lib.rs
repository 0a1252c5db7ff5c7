//! `js5d` serves a game cache over JS5.
//!
//! Read in this order: [`protocol`] is the wire and knows nothing else; [`cache`] reads the
//! stores on disk; [`catalog`] checks and frames what they hold; [`net`] serves it on the ring;
//! [`proxy`] is the header of a balancer in front of it; [`platform`] asks the system for what
//! that needs; [`admin`] tells operators how it goes. [`cli`], [`settings`], [`config`] and
//! [`command`] make the program of it.
//!
//! No failure that is foreseen is a panic, because one ends the process with all its peers.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod admin;
pub mod cache;
pub mod catalog;
pub mod cli;
pub mod command;
pub mod config;
pub mod failure;
pub mod net;
pub mod platform;
pub mod protocol;
pub mod proxy;
pub mod settings;
