//! Returns memory to the system when most of many peers have gone.
//!
//! The memory of peers is freed into the worker's heap, and glibc returns only the end of a heap to
//! the system. If a few blocks at that end stay in use, the process keeps all of it: 25 MB after
//! 2,000 busy peers.

use crate::platform::memory;

/// Fewer peers than this leave at most 2 MB, which is not worth the work.
const CROWD_MIN: u64 = 32;

/// A crowd has gone when at most one in so many of its peers is left.
const SHARE_LEFT: u64 = 4;

/// The most connections at a time since memory was last returned.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    most: u64,
}

impl Crowd {
    /// To be called at each heartbeat. A busy worker returns nothing, because that takes time and
    /// the memory may soon be needed again.
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
            (500, true, false), // the worker is busy
            (500, false, true),
            (499, false, false), // the crowd to compare with is 500
            (125, false, true),
            (31, false, true),
            (0, false, false),
        ];
        for (connections, is_busy, expected) in cases {
            assert_eq!(crowd.has_gone(connections, is_busy), expected, "{connections}");
        }
    }
}
