//! `js5d` serves a game cache over JS5.
//!
//! Read in this order: [`protocol`] is the wire and uses none of the others; [`cache`] reads the
//! stores on disk; [`catalog`] checks and frames the groups in them; [`net`] serves them on the
//! ring; [`proxy`] reads the header of a balancer in front of the server; [`platform`] has calls
//! to the system; [`admin`] shows the server's state to operators. [`cli`], [`settings`],
//! [`config`] and [`command`] make a program of these.
//!
//! An expected failure is never a panic, because a panic ends the process with all its peers.
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
