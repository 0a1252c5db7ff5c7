//! Returns memory to the system when most of many peers have gone.
//!
//! Memory of peers is freed into the worker's heap, of which glibc itself returns only the end. If
//! a few blocks at that end stay in use, the process keeps all of it: 25 MB after 2,000 busy peers.

use crate::platform::memory;

/// Fewer peers than this leave 2 MB at most, which is not worth the work.
const CROWD_MIN: u64 = 32;

/// A crowd has gone when one in so many of its peers is left.
const SHARE_LEFT: u64 = 4;

/// The most connections there have been since memory was last given back.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    most: u64,
}

impl Crowd {
    /// To be told at each heartbeat. A busy worker has no time for it: what is freed may soon be
    /// needed again.
    pub(super) fn beat(&mut self, connections: u64, is_busy: bool) {
        if self.has_gone(connections, is_busy) {
            memory::return_free_blocks();
        }
    }

    fn has_gone(&mut self, connections: u64, is_busy: bool) -> bool {
        self.most = self.most.max(connections);
        let has_gone = self.most >= CROWD_MIN && connections <= self.most / SHARE_LEFT && !is_busy;
        if has_gone {
            self.most = connections;
        }
        has_gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_has_gone_when_a_quarter_of_it_is_left_and_only_once() {
        let mut crowd = Crowd::default();
        let cases = [
            (31, false, false),
            (0, false, false), // no crowd
            (2000, false, false),
            (501, false, false),
            (500, true, false), // too busy to look
            (500, false, true),
            (499, false, false), // a smaller crowd now
            (125, false, true),
            (31, false, true),
            (0, false, false),
        ];
        for (connections, is_busy, expected) in cases {
            assert_eq!(crowd.has_gone(connections, is_busy), expected, "{connections}");
        }
    }
}
