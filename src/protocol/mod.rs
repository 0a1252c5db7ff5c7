//! The wire. Pure: bytes in, bytes out. No I/O, no clock, no threads.
//!
//! The words are those of docs/protocol.md, which is the contract: where the code and it
//! differ, the code is wrong. [`ServerSession`] is the server's side of one connection,
//! [`ClientSession`] the client's.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation
    )
)]

pub mod archive_index;
pub mod client;
pub mod container;
mod fault;
pub mod frame;
pub mod handshake;
mod id;
pub mod listing;
pub mod master_index;
pub mod profile;
pub mod queue;
mod received;
pub mod request;
mod response;
pub mod rsa;
pub mod session;

pub use client::ClientSession;
pub use handshake::{Builds, Status};
pub use id::{
    ARCHIVE_INDEXES, Class, GROUP_BEYOND, GROUPS_MAX, GROUPS_NARROW, GroupId, MASTER_INDEX,
};
pub use profile::{Clients, Profile};
pub use response::Dialect;
pub use session::ServerSession;
