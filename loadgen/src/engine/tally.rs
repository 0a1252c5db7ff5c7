//! A worker's books: measurements into the recorder, and by name whatever goes wrong.
use super::check::Token;
use js5d::protocol::client::Fault;
use js5d::protocol::{Class, GroupId, Status};
