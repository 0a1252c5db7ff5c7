//! Hostile clients: each connection tries one trick for a while, disconnects, and connects again.
//! This file decides what is to be sent and done, and the client does it.
//!
//! Of these clients only the outcome of each connection is counted: a server may cut a hostile
//! client at any time. It must not serve wrong bytes if the trick keeps to the protocol, and must
//! not let honest clients suffer; to measure that, run honest clients too, with `--mix`.

use super::checker::Checker;
use super::faults::Token;
use crate::catalogue::Catalogue;
use crate::scenario::{Trick, Tricks};
use fastrand::Rng;
use js5d::protocol::request::Message;
use js5d::protocol::{Class, GroupId};

/// What a client that drips lets pass between two bytes.
const DRIP_NS: u64 = 1_000_000_000;

/// Requests of the tricks that ask for something.
const REQUESTS: u32 = 20;

/// Requests of a client that overruns its windows and reads nothing.
const OVER_WINDOW_REQUESTS: u32 = 100_000;

/// Pairs of messages of a client that is legal but useless.
const USELESS_MESSAGES: u32 = 10_000;

/// Bytes of responses within which a client resets: three blocks and a little more.
const RESET_WITHIN_BYTES: usize = 1600;

/// A connection's trick and how far it is.
#[derive(Debug)]
pub(crate) struct Hostile {
    trick: Trick,
    /// When the client goes by itself.
    until_ns: u64,
    has_begun: bool,
    step: u32,
    next_step_ns: u64,
    /// Bytes received, the status included.
    received: usize,
    answers: u32,
    reset_after: usize,
    /// What a client that drips sends once, and what over and over.
    drip: Option<(Vec<u8>, Vec<u8>)>,
}

/// What a trick may use: the client's means of saying something.
pub(crate) struct Talk<'a> {
    pub(crate) now_ns: u64,
    /// The status has come, and is OK.
    pub(crate) is_open: bool,
    pub(crate) catalogue: &'a Catalogue,
    pub(crate) rng: &'a mut Rng,
    pub(crate) checker: &'a mut Checker,
    pub(crate) out: &'a mut Vec<u8>,
}

/// What a step of a trick asks of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// To stay; to be asked again at this time, and whenever something comes.
    Hold {
        until_ns: u64,
    },
    /// To end the client's side, and to stay.
    EndMySide {
        until_ns: u64,
    },
    Leave,
    Reset,
    /// To leave, and to count a body for a group that no index lists.
    Accuse,
}

impl Hostile {
    /// A trick, drawn, that is held from `now_ns` on.
    pub(crate) fn begin(tricks: &Tricks, now_ns: u64, rng: &mut Rng) -> Self {
        Self {
            trick: rng.choice(&tricks.tricks).copied().unwrap_or(Trick::Silent),
            until_ns: now_ns + tricks.hold_ns,
            has_begun: false,
            step: 0,
            next_step_ns: 0,
            received: 0,
            answers: 0,
            reset_after: rng.usize(..=RESET_WITHIN_BYTES),
            drip: None,
        }
    }

    pub(crate) fn reads_nothing(&self) -> bool {
        self.trick == Trick::OverWindow
    }

    pub(crate) fn sends_bytewise(&self) -> bool {
        self.trick == Trick::OneByteSegments
    }

    /// How many bytes may be read next, for a client that resets at a byte.
    pub(crate) fn read_limit(&self) -> Option<u32> {
        if self.trick != Trick::Reset {
            return None;
        }
        // One more for the status byte, which comes first.
        Some((self.reset_after + 1).saturating_sub(self.received).max(1) as u32)
    }

    pub(crate) fn received(&mut self, bytes: usize, answers: u32) {
        self.received += bytes;
        self.answers += answers;
    }

    /// Whether the server may send what it likes before it closes.
    pub(crate) fn broke_the_protocol(&self) -> bool {
        matches!(self.trick, Trick::NotJs5 | Trick::UnknownOpcode)
    }

    /// The next step of the trick.
    pub(crate) fn act(&mut self, talk: &mut Talk<'_>) -> Act {
        if !std::mem::replace(&mut self.has_begun, true) && self.is_handshake_of_js5() {
            talk.checker.handshake(talk.out);
        }
        match self.trick {
            Trick::Silent => {}
            Trick::OneByte => self.once(&[15], talk),
            Trick::NotJs5 => self.once(&[14, 0, 0, 0, 0, 0, 0, 0], talk),
            Trick::Drip => self.drip(talk),
            Trick::OverWindow if self.step == 0 => {
                self.step = 1;
                for _ in 0..OVER_WINDOW_REQUESTS {
                    let id = talk.catalogue.popular(talk.rng);
                    talk.checker.send(Message::Request(Class::Urgent, id), talk.out);
                }
            }
            Trick::OverWindow => {}
            _ if !talk.is_open => {}
            _ => {
                if let Some(act) = self.act_after_status(talk) {
                    return act;
                }
            }
        }
        if talk.now_ns >= self.until_ns {
            return Act::Leave;
        }
        let has_next = self.next_step_ns > talk.now_ns;
        let until_ns = if has_next { self.until_ns.min(self.next_step_ns) } else { self.until_ns };
        Act::Hold { until_ns }
    }

    fn act_after_status(&mut self, talk: &mut Talk<'_>) -> Option<Act> {
        let first = self.step == 0;
        self.step = 1;
        match self.trick {
            Trick::HalfRequest if first => talk.out.extend([1, 255]),
            Trick::UnknownOpcode if first => {
                let message_len = talk.checker.speech().profile.frame.message_len();
                talk.out.push(99);
                talk.out.extend(std::iter::repeat_n(0, message_len - 1));
            }
            Trick::Useless if first => {
                for i in 0..USELESS_MESSAGES {
                    talk.checker.send(Message::LoggedIn(i % 2 == 0), talk.out);
                    talk.checker.rekey(i as u8, talk.out);
                }
                // Whether a server knows keys at all is the question of --key.
                talk.checker.rekey(0, talk.out);
                ask_for_popular(talk, 1);
            }
            Trick::UnknownGroup if first => {
                for _ in 0..REQUESTS {
                    let id = talk.catalogue.unlisted(talk.rng);
                    ask_for(talk, id);
                }
            }
            Trick::UnknownGroup if self.answers > 0 => return Some(Act::Accuse),
            Trick::Reset | Trick::OneByteSegments | Trick::HalfClose if first => {
                ask_for_popular(talk, REQUESTS);
                if self.trick == Trick::HalfClose {
                    return Some(Act::EndMySide { until_ns: self.until_ns });
                }
            }
            Trick::Reset if self.received > self.reset_after => return Some(Act::Reset),
            Trick::OneByteSegments if self.answers >= REQUESTS => return Some(Act::Leave),
            _ => {}
        }
        None
    }

    fn is_handshake_of_js5(&self) -> bool {
        !matches!(self.trick, Trick::Silent | Trick::OneByte | Trick::Drip | Trick::NotJs5)
    }

    fn once(&mut self, bytes: &[u8], talk: &mut Talk<'_>) {
        if self.step == 0 {
            self.step = 1;
            talk.out.extend(bytes);
        }
    }

    fn drip(&mut self, talk: &mut Talk<'_>) {
        if self.next_step_ns > talk.now_ns {
            return;
        }
        // The handshake, then what every real client says next.
        let (once, again) = self.drip.get_or_insert_with(|| {
            let (mut handshake, mut message) = (Vec::new(), Vec::new());
            talk.checker.handshake(&mut handshake);
            talk.checker.send(Message::LoggedIn(false), &mut message);
            (handshake, message)
        });
        let bytes = once.iter().chain(again.iter().cycle());
        talk.out.extend(bytes.skip(self.step as usize).take(1));
        self.step += 1;
        self.next_step_ns = talk.now_ns + DRIP_NS;
    }
}

fn ask_for_popular(talk: &mut Talk<'_>, count: u32) {
    for _ in 0..count {
        let id = talk.catalogue.popular(talk.rng);
        ask_for(talk, id);
    }
}

fn ask_for(talk: &mut Talk<'_>, id: GroupId) {
    let token = Token { intended_ns: talk.now_ns, written_ns: talk.now_ns };
    talk.checker.request(Class::Urgent, id, token, talk.out);
}
