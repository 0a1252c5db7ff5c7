//! One connection of the null server: requests in, responses out, in the order of asking.

use super::catalogue::Groups;
use js5d::protocol::handshake::HANDSHAKE_LEN;
use js5d::protocol::request::{MESSAGE_LEN, Message};
use js5d::protocol::{Class, GroupId};
use rustix::net::{SendAncillaryBuffer, SendFlags};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;

/// Responses up to this length are copied together; longer ones are sent from where they are.
const COPY_MAX: usize = 4096;

/// Long responses that go into one send: 256 KB of 100 KB groups are three.
const LONG_AT_ONCE: usize = 4;

/// A long response that waits.
struct Long {
    id: GroupId,
    head: [u8; 4],
}

pub(super) struct Connection {
    pub(super) socket: OwnedFd,
    pub(super) receiving: bool,
    pub(super) polling: bool,
    /// It has ended, and is to be closed.
    pub(super) over: bool,
    partial: Vec<u8>,
    is_open: bool,
    key: u8,
    /// Requests that are not answered yet, each with the key of its time.
    asked: VecDeque<(Class, GroupId, u8)>,
    /// How many of them arrived since they were last counted.
    new: usize,
    out: Vec<u8>,
    out_sent: usize,
    long: VecDeque<Long>,
    /// How much of the first long response has been sent.
    long_sent: usize,
}

impl Connection {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            receiving: false,
            polling: false,
            over: false,
            partial: Vec::new(),
            is_open: false,
            key: 0,
            asked: VecDeque::new(),
            new: 0,
            out: Vec::new(),
            out_sent: 0,
            long: VecDeque::new(),
            long_sent: 0,
        }
    }

    pub(super) fn shut_down(&self) {
        // The peer may be gone already.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
    }

    /// Whether something waits for room in the socket.
    pub(super) fn is_blocked(&self) -> bool {
        self.out_sent < self.out.len() || !self.long.is_empty()
    }

    /// Takes in what a client sends; false if the connection is to end.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> bool {
        if self.partial.is_empty() {
            let taken = self.take(bytes);
            return taken.is_some_and(|rest| {
                self.partial.extend_from_slice(rest);
                true
            });
        }
        let mut all = std::mem::take(&mut self.partial);
        all.extend_from_slice(bytes);
        let Some(rest) = self.take(&all) else { return false };
        self.partial = rest.to_vec();
        true
    }

    fn take<'a>(&mut self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let mut rest = bytes;
        if !self.is_open {
            let Some((_, later)) = rest.split_first_chunk::<HANDSHAKE_LEN>() else {
                return Some(rest);
            };
            self.is_open = true;
            self.out.push(0);
            rest = later;
        }
        while let Some((message, later)) = rest.split_first_chunk::<MESSAGE_LEN>() {
            rest = later;
            match Message::parse(*message) {
                Ok(Message::Request(class, id)) => {
                    self.asked.push_back((class, id, self.key));
                    self.new += 1;
                }
                Ok(Message::Rekey(key)) => self.key = key,
                Ok(Message::Disconnect) | Err(_) => return None,
                Ok(_) => {}
            }
        }
        Some(rest)
    }

    /// Requests that arrived since the last call.
    pub(super) fn take_new(&mut self) -> usize {
        std::mem::take(&mut self.new)
    }

    /// Answers everything that is asked.
    pub(super) fn answer_all(&mut self, groups: &Groups) {
        while !self.asked.is_empty() {
            self.answer_one(groups);
        }
    }

    /// Answers the request that has waited for longest, if there is one.
    #[inline]
    pub(super) fn answer_one(&mut self, groups: &Groups) {
        let Some((class, id, key)) = self.asked.pop_front() else { return };
        let Some(framed) = groups.find(id) else { return };
        let head = Groups::head(id, framed, class == Class::Prefetch);
        // Long ones are sent after what is copied: order is free, and a key needs a copy.
        if framed.len() > COPY_MAX && key == 0 {
            return self.long.push_back(Long { id, head });
        }
        let start = self.out.len();
        self.out.extend_from_slice(framed);
        self.out[start..start + 4].copy_from_slice(&head);
        if key != 0 {
            for byte in &mut self.out[start..] {
                *byte ^= key;
            }
        }
    }

    /// Sends what the socket takes.
    pub(super) fn send(&mut self, groups: &Groups) -> io::Result<()> {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        // A long response that has begun goes first: nothing may come in between.
        while self.long_sent > 0 {
            if !self.send_long(groups, flags)? {
                return Ok(());
            }
        }
        while self.out_sent < self.out.len() {
            match rustix::net::send(&self.socket, &self.out[self.out_sent..], flags) {
                Ok(sent) => self.out_sent += sent,
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(e) => return Err(e.into()),
            }
        }
        self.out.clear();
        self.out_sent = 0;
        while !self.long.is_empty() {
            if !self.send_long(groups, flags)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Sends some of the long responses; false if the socket takes no more.
    fn send_long(&mut self, groups: &Groups, flags: SendFlags) -> io::Result<bool> {
        let mut slices = [IoSlice::new(&[]); 2 * LONG_AT_ONCE];
        let mut skip = self.long_sent;
        for (pair, long) in slices.chunks_exact_mut(2).zip(&self.long) {
            let framed = groups.find(long.id).unwrap_or_default();
            pair[0] = IoSlice::new(long.head.get(skip..).unwrap_or_default());
            pair[1] = IoSlice::new(&framed[skip.max(4)..]);
            skip = 0;
        }
        let mut none = SendAncillaryBuffer::default();
        let sent = match rustix::net::sendmsg(&self.socket, &slices, &mut none, flags) {
            Ok(sent) => sent,
            Err(rustix::io::Errno::AGAIN) => return Ok(false),
            Err(e) => return Err(e.into()),
        };
        self.long_sent += sent;
        while let Some(first) = self.long.front() {
            let len = groups.find(first.id).map_or(0, <[u8]>::len);
            if self.long_sent < len {
                break;
            }
            self.long_sent -= len;
            self.long.pop_front();
        }
        Ok(true)
    }
}
