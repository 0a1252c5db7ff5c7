//! A client, and the model of its connection: the bytes that the client wrote, how many of them the
//! server has taken, and therefore which bytes the server must send next.
//!
//! The model sees only the bytes and counts of a machine. It reads batches as a client does, and
//! has queues of its own in which each request waits until its response begins. It prescribes every
//! byte that is sent, but not how many are sent at once.

use super::catalog::{any_group, catalog};
use super::tally::{Fault, Tally};
use crate::net::Course;
use crate::net::count::Close;
use crate::protocol::frame::{BLOCK_LEN, BLOCK_MARKER};
use crate::protocol::handshake::Status;
use crate::protocol::profile::{Handshake, Language, Mark, Profile};
use crate::protocol::request::Frame;
use crate::protocol::session::Violation;
use crate::protocol::{ARCHIVE_INDEXES, Class, GroupId};
use std::collections::VecDeque;

/// The bytes of each block that name its response, in framings that have them.
const BLOCK_LEAD_LEN: usize = 5;

/// The settings of all connections of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) queue_len_max: usize,
    pub(super) close_on_missing: bool,
    pub(super) break_off: bool,
    pub(super) is_capped: bool,
    pub(super) chatter_max: u32,
    /// How many of a hundred requests are for large groups.
    pub(super) large_percent: u8,
}

/// How far the server has come with the client's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// So many more bytes of the handshake are needed for its answer.
    Opening(usize),
    Open,
    Refused,
    Broken(Violation),
}

/// The outcome of a handshake.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    Answered(Status),
    Broken(Violation),
}

/// A request that waits for its response to begin.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    id: GroupId,
    /// How often its response was broken off.
    times: u8,
}

/// A response that has begun.
#[derive(Clone, Copy, Debug)]
struct Begun {
    wanted: Wanted,
    class: Class,
    key: u8,
    wire: &'static [u8],
    taken: usize,
}

/// What the server counts of one connection's requests that get no answer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Unanswered {
    pub(super) missing: u64,
    /// Prefetch, urgent.
    pub(super) by_class: [u64; 2],
}

/// A client and the model of its connection.
pub(super) struct Peer {
    rules: Rules,
    profile: &'static Profile,
    build: u32,
    generation: usize,
    refusal: Option<Status>,
    /// Bytes that the client has written and the server has not received.
    pub(super) upstream: VecDeque<u8>,
    /// The client writes nothing more.
    pub(super) has_ended: bool,
    stage: Stage,
    outcome: Outcome,
    status_due: Option<Status>,
    partial: Vec<u8>,
    urgent: VecDeque<Wanted>,
    prefetch: VecDeque<Wanted>,
    begun: Option<Begun>,
    /// Where blocks name their response: a prefetch that an urgent response has overtaken.
    parked: Option<Begun>,
    /// The server may have moved the first urgent request that may follow a broken-off prefetch
    /// before the others.
    may_be_reordered: bool,
    key: u8,
    marks: bool,
    undecided: bool,
    disconnected: bool,
    /// A group that the cache lacks was asked for, and the setting is to end the connection then.
    missed: bool,
    told_to_leave: bool,
    /// It was cut or was too late, so its requests may go unanswered.
    pub(super) cut: Option<Close>,
    pub(super) input_ended: bool,
    ended: bool,
    /// Messages and reads that ask for nothing.
    said: u32,
    /// Bytes of all batches, and those of them that were in vain.
    sent: u64,
    wasted: u64,
    pub(super) tally: Tally,
}

impl Peer {
    /// A client of `build` whose handshake is on its way, or a part of it, or nonsense.
    pub(super) fn new(
        rules: Rules,
        profile: &'static Profile,
        build: u32,
        generation: usize,
        refusal: Option<Status>,
        rng: &mut fastrand::Rng,
    ) -> Self {
        let mut peer = Self {
            rules,
            profile,
            build,
            generation,
            refusal,
            upstream: VecDeque::new(),
            has_ended: false,
            stage: Stage::Opening(0),
            outcome: Outcome::Answered(refusal.unwrap_or(Status::Ok)),
            status_due: None,
            partial: Vec::new(),
            urgent: VecDeque::new(),
            prefetch: VecDeque::new(),
            begun: None,
            parked: None,
            may_be_reordered: false,
            key: 0,
            marks: matches!(profile.mark, Mark::TypeBit | Mark::GroupBit),
            undecided: profile.mark == Mark::ByFirstOp6,
            disconnected: false,
            missed: false,
            told_to_leave: false,
            cut: None,
            input_ended: false,
            ended: false,
            said: 0,
            sent: 0,
            wasted: 0,
            tally: Tally::default(),
        };
        peer.greet(rng);
        peer
    }

    // What the client writes.

    fn greet(&mut self, rng: &mut fastrand::Rng) {
        let mut hello = vec![15];
        let mut answered_after = 5;
        let build = if rng.u8(..25) == 0 { 0 } else { self.build };
        match self.profile.handshake {
            Handshake::Fixed { key } => {
                hello.extend(build.to_be_bytes());
                let is_served = build != 0 && self.refusal.is_none();
                if key && is_served {
                    hello.extend([rng.u8(..); 16]);
                    answered_after += 16;
                }
            }
            Handshake::Prefixed(language) => {
                let has_language = match language {
                    Language::Yes => true,
                    Language::No => false,
                    Language::Either => rng.bool(),
                };
                hello.push(4 + 4 + 33 + u8::from(has_language));
                hello.extend(build.to_be_bytes());
                hello.extend([0, 0, 0, 1]);
                hello.extend([b'k'; 32]);
                hello.push(0);
                hello.extend(has_language.then_some(2));
                answered_after = hello.len();
            }
        }
        if build == 0 && self.refusal.is_none() {
            self.outcome = Outcome::Answered(Status::OutOfDate);
        }
        match rng.u8(..60) {
            0 => {
                hello[0] = 14;
                answered_after = 1;
                self.outcome = Outcome::Broken(Violation::NotJs5 { opcode: 14 });
            }
            1 => {
                hello[1] = 3;
                answered_after = 2;
                self.outcome = Outcome::Broken(Violation::MalformedHandshake { len: 3 });
            }
            2 => hello.truncate(rng.usize(..answered_after)),
            _ => {}
        }
        let is_whole = hello.len() >= answered_after;
        self.stage = Stage::Opening(answered_after);
        self.upstream.extend(hello);
        if is_whole && rng.bool() {
            // Some clients write requests at once, others wait for the status.
            self.write(6, 0, 3);
        }
        self.has_ended = !is_whole && rng.bool();
    }

    /// Writes something: requests mostly.
    pub(super) fn say(&mut self, rng: &mut fastrand::Rng) {
        if !self.is_greeted() {
            return;
        }
        match rng.u16(..400) {
            0..40 => self.write(4, if rng.bool() { 0 } else { rng.u8(..) }, 0),
            40..60 => {
                let is_talkative = self.rules.chatter_max < 10;
                for _ in 0..if is_talkative { 12 } else { 1 } {
                    self.write(2 + rng.u8(..2), 0, 0);
                }
            }
            60..66 => self.write(6, 0, 3),
            66 => self.write(if rng.bool() { 5 } else { 200 }, 1, 1),
            67..70 => self.write(7, 0, 0),
            70..74 => self.has_ended = true,
            _ => self.ask(rng),
        }
    }

    /// Whether it has written its handshake and goes on.
    fn is_greeted(&self) -> bool {
        let is_short = matches!(self.stage, Stage::Opening(left) if left > self.upstream.len());
        !is_short && !self.has_ended
    }

    /// The client is done: it disconnects in one of the possible ways, or stays and writes nothing.
    pub(super) fn leave(&mut self, rng: &mut fastrand::Rng) {
        match rng.u8(..3) {
            0 if self.is_greeted() => self.write(7, 0, 0),
            1 => self.has_ended = true,
            _ => {}
        }
    }

    fn ask(&mut self, rng: &mut fastrand::Rng) {
        let urgent_percent = [5, 50, 95][rng.usize(..3)];
        let young = matches!(self.profile.frame, Frame::Ten) && rng.bool();
        let requests_max = [1, 4, 20][rng.usize(..3)];
        for _ in 0..rng.usize(1..=requests_max) {
            let id = any_group(rng, self.rules.large_percent);
            let opcode = u8::from(rng.u8(..100) < urgent_percent) + if young { 32 } else { 0 };
            self.write(opcode, id.archive, id.group);
        }
    }

    fn write(&mut self, opcode: u8, argument: u8, group: u32) {
        let [a, b, c, d] = group.to_be_bytes();
        let [.., build_high, build_low] = self.build.to_be_bytes();
        match self.profile.frame {
            Frame::Four => self.upstream.extend([opcode, argument, c, d]),
            Frame::Six => self.upstream.extend([opcode, argument, a, b, c, d]),
            Frame::Ten => {
                self.upstream.extend([opcode, argument, a, b, c, d, build_high, build_low, 0, 0])
            }
        }
    }

    // What the server takes.

    /// How many of `bytes` the server must take at this moment. The model counts them as taken.
    pub(super) fn take(&mut self, bytes: &[u8], course: Course, server_took: usize) -> usize {
        if self.is_leaving(course) || self.ended || self.cut.is_some() {
            return 0;
        }
        let mut taken = 0;
        if let Stage::Opening(left) = self.stage {
            taken = left.min(bytes.len());
            self.stage = Stage::Opening(left - taken);
            if taken == left {
                self.answer();
            }
        }
        if self.stage == Stage::Open {
            taken += self.take_messages(&bytes[taken..], server_took.saturating_sub(taken));
        }
        match self.stage {
            Stage::Open if !self.disconnected => taken,
            Stage::Opening(_) => taken,
            // The rest is read and has no effect.
            _ => bytes.len(),
        }
    }

    fn answer(&mut self) {
        match self.outcome {
            Outcome::Answered(status) => {
                self.status_due = Some(status);
                let is_ok = status == Status::Ok;
                self.stage = if is_ok { Stage::Open } else { Stage::Refused };
            }
            Outcome::Broken(violation) => self.stage = Stage::Broken(violation),
        }
    }

    fn take_messages(&mut self, bytes: &[u8], server_took: usize) -> usize {
        if self.undecided
            && let Some(&first) = bytes.first()
        {
            self.undecided = false;
            self.marks = first == 6;
        }
        let len = match self.profile.frame {
            Frame::Four => 4,
            Frame::Six => 6,
            Frame::Ten => 10,
        };
        let mut taken = 0;
        while self.stage == Stage::Open && !self.disconnected {
            let rest = &bytes[taken..];
            let missing = len - self.partial.len();
            if rest.len() < missing {
                self.partial.extend(rest);
                return bytes.len();
            }
            let mut message = self.partial.clone();
            message.extend(&rest[..missing]);
            let is_taken = self.take_message(&message)
                || taken < server_took && self.drop_broken_off() && self.take_message(&message);
            if !is_taken {
                return taken;
            }
            self.partial.clear();
            taken += missing;
        }
        taken
    }

    /// False if the queue has no room for the request.
    fn take_message(&mut self, message: &[u8]) -> bool {
        let group = match message {
            [_, _, a, b] => u32::from_be_bytes([0, 0, *a, *b]),
            [_, _, a, b, c, d, ..] => u32::from_be_bytes([*a, *b, *c, *d]),
            _ => unreachable!("no shorter ones are written"),
        };
        let is_young = message.len() == 10;
        match message[0] {
            opcode if opcode < 2 || is_young && matches!(opcode, 32 | 33) => {
                let class = if opcode % 2 == 1 { Class::Urgent } else { Class::Prefetch };
                if self.queue(class).len() >= self.rules.queue_len_max {
                    return false;
                }
                let id = GroupId { archive: message[1], group };
                self.queue(class).push_back(Wanted { id, times: 0 });
                self.tally.requests[number(class)] += 1;
            }
            2 | 3 => {
                self.said += 1;
                self.tally.state_changes += 1;
            }
            4 => {
                self.said += 1;
                self.tally.rekeys += 1;
                self.key = if self.profile.xor { message[1] } else { 0 };
            }
            6 => {}
            7 => {
                self.disconnected = true;
                self.give_up_queued();
            }
            opcode => self.stage = Stage::Broken(Violation::UnknownOpcode { opcode }),
        }
        true
    }

    /// Counts a read without a request.
    pub(super) fn count_read(&mut self) {
        self.said += 1;
    }

    /// Whether the client has exceeded its budget of messages that ask for nothing.
    pub(super) fn says_much(&self) -> bool {
        self.said > 20 * self.rules.chatter_max
    }

    /// The machine was told to leave, so that the client reconnects.
    pub(super) fn told_to_leave(&mut self) {
        self.told_to_leave = true;
    }

    fn is_leaving(&self, course: Course) -> bool {
        let is_greeting = matches!(self.stage, Stage::Opening(_)) && course != Course::Stopping;
        !is_greeting && (course.is_draining() || self.told_to_leave)
    }

    /// The server stops, and steps the connection: a handshake that arrives later is refused.
    pub(super) fn is_stepped(&mut self, course: Course) {
        if course == Course::Stopping {
            self.is_refused(Status::ServerFull);
        }
    }

    /// The handshake has missed its deadline, or the server stops.
    pub(super) fn is_refused(&mut self, status: Status) {
        if matches!(self.stage, Stage::Opening(_)) && !self.ended && self.cut.is_none() {
            self.status_due = Some(self.refusal.unwrap_or(status));
            self.stage = Stage::Refused;
        }
    }

    /// Whether the handshake has not arrived yet.
    pub(super) fn is_opening(&self) -> bool {
        matches!(self.stage, Stage::Opening(_))
    }

    /// Whether the server has taken something that is not answered yet.
    pub(super) fn is_owed(&self) -> bool {
        self.status_due.is_some()
            || self.begun.is_some()
            || self.parked.is_some()
            || !self.urgent.is_empty()
            || !self.prefetch.is_empty()
    }

    // What the server sends.

    /// An error if a batch is not what must be sent next. `was_slow`: the peer counted as slow.
    pub(super) fn check_batch(&mut self, bytes: &[u8], was_slow: bool) -> Result<(), Fault> {
        if self.ended {
            return Err("sends after the end".to_owned());
        }
        let mut rest = bytes;
        self.sent += bytes.len() as u64;
        if let Some(status) = self.status_due.take() {
            rest = self.check_status(status, rest)?;
        }
        if self.rules.is_capped {
            let charged = match rest {
                // The batch may be empty because its requests are for groups that the cache lacks.
                [] => &mut self.tally.charged_perhaps,
                _ => &mut self.tally.charged,
            };
            *charged += bytes.len() as u64;
        }
        self.may_be_reordered |= self.rules.break_off
            && self.profile.break_off
            && self.begun.is_some_and(|begun| begun.class == Class::Prefetch);
        while !rest.is_empty() {
            rest = match self.begun.take() {
                Some(begun) => self.go_on(begun, rest, was_slow)?,
                None => {
                    let begun = self.begin(rest)?;
                    self.go_on(begun, rest, was_slow)?
                }
            };
        }
        Ok(())
    }

    fn check_status<'a>(&mut self, status: Status, bytes: &'a [u8]) -> Result<&'a [u8], Fault> {
        let byte = match status {
            Status::Ok => 0,
            Status::OutOfDate => 6,
            Status::ServerFull => 7,
            Status::TooManyConnections => 9,
            Status::SessionExpired => 48,
        };
        let mut greeting = vec![byte];
        if status == Status::Ok {
            greeting.extend(self.profile.ints.iter().flat_map(|int| int.to_be_bytes()));
        }
        self.tally.count_status(status);
        let rest = bytes.strip_prefix(&greeting[..]).ok_or_else(|| {
            format!("status {byte} and {} integers were due", self.profile.ints.len())
        })?;
        if status != Status::Ok && !rest.is_empty() {
            return Err(format!("{} bytes after status {byte}", rest.len()));
        }
        Ok(rest)
    }

    /// Compares the continuation of a response. Returns the bytes after it.
    fn go_on<'a>(
        &mut self,
        mut begun: Begun,
        bytes: &'a [u8],
        was_slow: bool,
    ) -> Result<&'a [u8], Fault> {
        let wire = &begun.wire[begun.taken..];
        let len = wire.len().min(bytes.len());
        let mut same = first_difference(&bytes[..len], &wire[..len], begun.key).unwrap_or(len);
        let framing = self.profile.framing;
        let into_block = (begun.taken + same) % framing.block_len();
        if same < len && framing.is_multi() && into_block < BLOCK_LEAD_LEN {
            // The blocks of two responses may begin with the same bytes.
            same = same.saturating_sub(into_block);
        }
        begun.taken += same;
        let rest = &bytes[same..];
        if begun.taken == begun.wire.len() {
            self.tally.ended += 1;
            // The overtaken response continues, if no other overtakes it.
            if let Some(parked) = self.parked.take() {
                match self.resumes(&parked, rest) {
                    true => self.begun = Some(parked),
                    false => self.parked = Some(parked),
                }
            }
            return Ok(rest);
        }
        if same == len {
            self.begun = Some(begun);
            return Ok(rest);
        }
        self.break_off(begun, rest, was_slow)?;
        Ok(rest)
    }

    fn resumes(&self, parked: &Begun, rest: &[u8]) -> bool {
        let lead =
            &parked.wire[parked.taken..][..BLOCK_LEAD_LEN.min(parked.wire.len() - parked.taken)];
        let is_lead = lead.iter().zip(rest).all(|(lead, byte)| *lead == byte ^ parked.key);
        is_lead || self.urgent.is_empty()
    }

    /// A byte differs from the response's: either the response was broken off as the rules permit,
    /// or the byte is wrong.
    fn break_off(&mut self, begun: Begun, rest: &[u8], was_slow: bool) -> Result<(), Fault> {
        let framing = self.profile.framing;
        let total = begun.wire.len();
        let is_at_edge = begun.taken > 0 && begun.taken.is_multiple_of(framing.block_len());
        let wrong = |why: &str| {
            let (id, at) = (begun.wanted.id, begun.taken);
            let found = rest[0] ^ begun.key;
            Err(format!("{:?} {id}: wrong byte {found:02x} at {at} of {total}: {why}", begun.class))
        };
        if !is_at_edge || begun.class == Class::Urgent {
            return wrong("not the response's byte");
        }
        if framing.is_multi() {
            if self.parked.is_some() {
                return wrong("a second response is overtaken");
            }
            self.parked = Some(begun);
            return self.cut_in(rest);
        }
        // The server decides on breaking off up to a block before the edge.
        let decided_at = begun.taken.saturating_sub(BLOCK_LEN - 1);
        let waste_max = (448 << 10).max(self.sent / 11) + BLOCK_LEN as u64;
        self.wasted += begun.taken as u64;
        if rest[0] ^ begun.key == BLOCK_MARKER {
            return wrong("the client would take it for the response's");
        } else if !self.rules.break_off || !self.profile.break_off {
            return wrong("broken off although breaking off is not allowed");
        } else if begun.wanted.times >= 2 {
            return wrong("broken off a third time");
        } else if total - decided_at <= total / 8 {
            return wrong("broken off after seven eighths of it were sent");
        } else if begun.key != self.key {
            return wrong("broken off under another key");
        } else if !was_slow {
            return wrong("broken off for a fast peer");
        } else if self.wasted > waste_max {
            return wrong("broken off beyond the bound on bytes sent in vain");
        }
        self.tally.broken_off += 1;
        self.tally.wasted += begun.taken as u64;
        let times = begun.wanted.times + 1;
        self.prefetch.push_front(Wanted { times, ..begun.wanted });
        self.cut_in(rest)
    }

    /// An error if the response that comes in between is not urgent, or is an archive index.
    fn cut_in(&mut self, rest: &[u8]) -> Result<(), Fault> {
        let begun = self.begin(rest)?;
        let is_marker = begun.wanted.id.archive == ARCHIVE_INDEXES;
        if begun.class != Class::Urgent || is_marker && !self.profile.framing.is_multi() {
            return Err(format!("{:?} {} must not come between", begun.class, begun.wanted.id));
        }
        self.begun = Some(begun);
        Ok(())
    }

    /// The response that begins with these bytes, which must be the one that is due.
    fn begin(&mut self, bytes: &[u8]) -> Result<Begun, Fault> {
        if std::mem::take(&mut self.may_be_reordered)
            && let Some(at) = self.first_to_cut_in()
            && at > 0
            && self.starts(self.urgent[at], Class::Urgent, bytes)
            && !self.starts(self.urgent[0], Class::Urgent, bytes)
            && let Some(wanted) = self.urgent.remove(at)
        {
            self.urgent.push_front(wanted);
        }
        self.drop_missing();
        if self.missed || self.stage != Stage::Open {
            return Err(format!("a response of {} bytes begins where none may", bytes.len()));
        }
        let (wanted, class) = if let Some(wanted) = self.urgent.pop_front() {
            (wanted, Class::Urgent)
        } else if self.parked.is_some() {
            return Err("a prefetch begins before the overtaken one has continued".to_owned());
        } else if let Some(wanted) = self.prefetch.pop_front() {
            (wanted, Class::Prefetch)
        } else {
            return Err(format!("{} bytes without a request", bytes.len()));
        };
        let wire = self.wire(wanted, class).ok_or("a group that is not there is answered")?;
        let len = bytes.len().min(3);
        if first_difference(&bytes[..len], &wire[..len], self.key).is_some() {
            let found: Vec<_> = bytes[..len].iter().map(|byte| byte ^ self.key).collect();
            return Err(format!("{class:?} {} is due, and {found:?} begins", wanted.id));
        }
        if wanted.times == 0 {
            self.tally.responses[number(class)] += 1;
            self.tally.response_bytes[number(class)] += wire.len() as u64;
        }
        Ok(Begun { wanted, class, key: self.key, wire, taken: 0 })
    }

    fn starts(&self, wanted: Wanted, class: Class, bytes: &[u8]) -> bool {
        self.wire(wanted, class).is_some_and(|wire| {
            let len = bytes.len().min(wire.len());
            first_difference(&bytes[..len], &wire[..len], self.key).is_none()
        })
    }

    fn wire(&self, wanted: Wanted, class: Class) -> Option<&'static [u8]> {
        let bit = self.marks && class == Class::Prefetch;
        catalog().response(self.generation, self.profile.dialect(), wanted.id, bit)
    }

    fn is_there(&self, wanted: Wanted) -> bool {
        self.wire(wanted, Class::Urgent).is_some()
    }

    fn first_to_cut_in(&self) -> Option<usize> {
        let may = |wanted: &Wanted| wanted.id.archive != ARCHIVE_INDEXES && self.is_there(*wanted);
        self.urgent.iter().position(may)
    }

    /// Drops the requests that are next and whose groups the cache lacks; they get no response.
    fn drop_missing(&mut self) {
        while !self.missed && self.drop_one_missing() {}
    }

    /// Drops the next request if the cache lacks its group.
    fn drop_one_missing(&mut self) -> bool {
        let class = if self.urgent.is_empty() { Class::Prefetch } else { Class::Urgent };
        let is_missing = self.queue(class).front().copied().is_some_and(|w| !self.is_there(w));
        if is_missing {
            self.queue(class).pop_front();
            self.tally.missing += 1;
            self.tally.unanswered[number(class)] += 1;
            self.missed = self.rules.close_on_missing;
        }
        is_missing
    }

    /// Drops the requests that left the queues without a response, after the last that has one.
    pub(super) fn drop_unanswered(&mut self, counted: &Unanswered) -> Result<(), Fault> {
        while self.tally.missing < counted.missing {
            if !self.drop_one_missing() {
                return Err("a request counts as missing before its turn".to_owned());
            }
        }
        let may_drop = self.missed || matches!(self.stage, Stage::Broken(_));
        for class in [Class::Prefetch, Class::Urgent] {
            while may_drop && self.tally.unanswered[number(class)] < counted.by_class[number(class)]
            {
                let Some(wanted) = self.queue(class).pop_front() else { break };
                self.give_up(class, wanted);
            }
        }
        Ok(())
    }

    /// An error if the server has counted other numbers of unanswered requests.
    pub(super) fn check_unanswered(&self, counted: &Unanswered) -> Result<(), Fault> {
        let Tally { missing, unanswered, .. } = self.tally;
        match missing == counted.missing && unanswered == counted.by_class {
            true => Ok(()),
            false => Err(format!("{counted:?}, by the model {missing} and {unanswered:?}")),
        }
    }

    fn queue(&mut self, class: Class) -> &mut VecDeque<Wanted> {
        match class {
            Class::Urgent => &mut self.urgent,
            Class::Prefetch => &mut self.prefetch,
        }
    }

    /// After a missing group the server empties the queues at some time. A prefetch that was broken
    /// off is not counted then, so only the room in its queue shows that it is gone.
    fn drop_broken_off(&mut self) -> bool {
        let is_first = self.prefetch.front().is_some_and(|wanted| wanted.times > 0);
        self.missed && is_first && self.prefetch.pop_front().is_some()
    }

    // While the server sends nothing.

    /// The server waits for requests: it must have answered all.
    pub(super) fn check_idle(&mut self, course: Course) -> Result<(), Fault> {
        let is_over = self.missed
            || self.disconnected
            || self.input_ended
            || self.is_leaving(course)
            || matches!(self.stage, Stage::Broken(_) | Stage::Refused);
        match self.is_owed() || is_over {
            true => Err("waits for requests while some are unanswered".to_owned()),
            false => Ok(()),
        }
    }

    /// The server waits for credit or a turn: there must be something to send.
    pub(super) fn check_owed(&self) -> Result<(), Fault> {
        let is_over = self.disconnected || self.stage == Stage::Refused;
        match self.is_owed() || is_over {
            true => Ok(()),
            false => Err("waits for credit or a turn without anything to send".to_owned()),
        }
    }

    /// The connection ends. What the client wrote must be a reason for that, and an orderly end
    /// must leave no request unanswered.
    pub(super) fn check_end(&mut self, reason: Close, course: Course) -> Result<(), Fault> {
        if std::mem::replace(&mut self.ended, true) {
            return Ok(());
        }
        let is_whole = self.status_due.is_none() && self.begun.is_none() && self.parked.is_none();
        let all_answered = is_whole && self.urgent.is_empty() && self.prefetch.is_empty();
        let is_right = match reason {
            reason if self.cut.is_some() => self.cut == Some(reason),
            Close::ByPeer => self.input_ended && all_answered,
            Close::Disconnect => self.disconnected && is_whole,
            Close::Refused => self.stage == Stage::Refused && is_whole,
            Close::Violation(violation) => self.stage == Stage::Broken(violation) && is_whole,
            Close::MissingGroup => self.missed && is_whole,
            Close::Generation => self.told_to_leave && all_answered,
            Close::Drain => course.is_draining() && all_answered,
            _ => false,
        };
        if !is_right {
            return Err(format!("ends as {reason:?} without cause"));
        }
        self.give_up_queued();
        self.tally.count_close(reason);
        Ok(())
    }

    /// Counts the queued requests as unanswered.
    fn give_up_queued(&mut self) {
        for class in [Class::Prefetch, Class::Urgent] {
            for wanted in std::mem::take(self.queue(class)) {
                self.give_up(class, wanted);
            }
        }
    }

    /// A request whose response was broken off is not unanswered: its response was counted.
    fn give_up(&mut self, class: Class, wanted: Wanted) {
        self.tally.unanswered[number(class)] += u64::from(wanted.times == 0);
    }

    /// The state of the model, for the report of a fault.
    pub(super) fn describe(&self) -> String {
        format!(
            "{:?}, status {:?}, {} urgent, {} prefetch, begun {:?}, disconnected {}, missed {}, \
             input ended {}, leaves {}, cut {:?}",
            self.stage,
            self.status_due,
            self.urgent.len(),
            self.prefetch.len(),
            self.begun.map(|begun| (begun.wanted.id, begun.taken, begun.wire.len())),
            self.disconnected,
            self.missed,
            self.input_ended,
            self.told_to_leave,
            self.cut,
        )
    }
}

/// The index of a class in a [`Tally`].
fn number(class: Class) -> usize {
    usize::from(class == Class::Urgent)
}

/// The index at which keyed `bytes` first differ from the expected ones.
fn first_difference(bytes: &[u8], expected: &[u8], key: u8) -> Option<usize> {
    const PIECE: usize = 256;
    let pieces = bytes.chunks(PIECE).zip(expected.chunks(PIECE)).enumerate();
    for (number, (piece, expected)) in pieces {
        let differs = piece.iter().zip(expected).fold(0, |all, (a, b)| all | (a ^ b ^ key));
        if differs != 0 {
            let at = piece.iter().zip(expected).position(|(a, b)| a ^ key != *b);
            return at.map(|at| number * PIECE + at);
        }
    }
    None
}
