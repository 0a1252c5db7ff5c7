//! A worker's tally: hands measurements to the recorder, and counts faults and outcomes by name.

use super::faults::{Stall, Token, Wrong};
use crate::stats::{Outcome, Recorder};
use js5d::protocol::Class;
use std::io;

/// The tally of a worker.
pub(crate) struct Tally {
    pub(crate) recorder: Recorder,
    pub(crate) now_ns: u64,
    /// The first error of a connect, in the system's words.
    pub(crate) connect_error: Option<String>,
}

impl Tally {
    pub(crate) fn new(recorder: Recorder) -> Self {
        Self { recorder, now_ns: 0, connect_error: None }
    }

    #[inline]
    pub(crate) fn response(&mut self, class: Class, token: &Token, done_ns: u64, bytes: u64) {
        let Token { intended_ns, written_ns } = *token;
        self.recorder.response(class, intended_ns, written_ns, done_ns, bytes);
    }

    pub(crate) fn wrong(&mut self, client: u32, wrong: &Wrong) {
        self.recorder.fault(wrong.kind(), client, self.now_ns, || wrong.words());
    }

    pub(crate) fn connect_failed(&mut self, error: &io::Error) {
        let outcome = match error.kind() {
            io::ErrorKind::ConnectionRefused => Outcome::ConnectRefused,
            io::ErrorKind::TimedOut => Outcome::ConnectTimeout,
            _ => Outcome::ConnectError,
        };
        self.connect_error.get_or_insert_with(|| error.to_string());
        self.outcome(outcome);
    }

    /// How a connection, or an attempt at one, ended.
    pub(crate) fn outcome(&mut self, outcome: Outcome) {
        self.recorder.outcome(outcome, self.now_ns);
    }

    pub(crate) fn stalled(&mut self, stall: &Stall) {
        let words = || stall.words();
        self.recorder.stall(stall.client, stall.since_ns, stall.until_ns, stall.bytes, words);
    }

    pub(crate) fn in_flight(&mut self, class: Class, token: &Token) {
        let Token { intended_ns, written_ns } = *token;
        self.recorder.in_flight_at_end(class, intended_ns, written_ns, self.now_ns);
    }

    /// `count` requests were due at `intended_ns`, and could not even be written.
    pub(crate) fn unwritten(&mut self, class: Class, intended_ns: u64, count: u64) {
        self.recorder.unwritten_at_end(class, intended_ns, self.now_ns, count);
    }
}
