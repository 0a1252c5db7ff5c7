//! The real program over real sockets, against a server that can be made to do wrong.

mod clients;
mod features;
mod refusals;
mod support;
mod truth;
mod verification;
