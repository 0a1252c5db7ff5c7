//! A worker's tally: hands measurements to the recorder, and counts faults and outcomes by name.

use super::faults::{Event, Stall, Token, Wrong};
use crate::stats::Recorder;
use js5d::protocol::Class;
use std::io;

/// The tally of a worker.
pub(crate) struct Tally {
    pub(crate) recorder: Recorder,
    pub(crate) now_ns: u64,
    by_crc: u64,
    by_bytes: u64,
    /// The first error of a connect, in the system's words.
    pub(crate) connect_error: Option<String>,
}

impl Tally {
    pub(crate) fn new(recorder: Recorder) -> Self {
        Self { recorder, now_ns: 0, by_crc: 0, by_bytes: 0, connect_error: None }
    }

    #[inline]
    pub(crate) fn response(&mut self, class: Class, token: &Token, done_ns: u64, bytes: u64) {
        let Token { intended_ns, written_ns } = *token;
        self.recorder.response(class, intended_ns, written_ns, done_ns, bytes);
    }

    pub(crate) fn checked_by_crc(&mut self) {
        self.by_crc += 1;
    }

    pub(crate) fn compared(&mut self) {
        self.by_bytes += 1;
    }

    pub(crate) fn wrong(&mut self, client: u32, wrong: &Wrong) {
        self.recorder.fault(wrong.kind(), client, self.now_ns, || wrong.words());
    }

    pub(crate) fn connect_failed(&mut self, error: &io::Error) {
        let event = match error.kind() {
            io::ErrorKind::ConnectionRefused => Event::ConnectRefused,
            io::ErrorKind::TimedOut => Event::ConnectTimeout,
            _ => Event::ConnectError,
        };
        self.connect_error.get_or_insert_with(|| error.to_string());
        self.event(event);
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.recorder.outcome(event.outcome(), self.now_ns);
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

    /// Everything into the recorder.
    pub(crate) fn settle(&mut self) {
        self.recorder.checked(std::mem::take(&mut self.by_crc), std::mem::take(&mut self.by_bytes));
    }
}
