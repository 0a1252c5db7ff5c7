//! Queues that a worker lends to its sessions.
//!
//! A fast peer's requests are answered in the same step that reads them, so its queues are empty
//! before the next connection is stepped, and a few queues are enough for all connections. These
//! few stay in the core's cache, and an idle connection needs no memory for queues.

use crate::protocol::session::Queues;

/// The number of pairs of queues that a worker keeps.
const POOL_LEN_MAX: usize = 64;

/// The capacity, in requests, that each kept queue may have: the default of `--queue-len-max`,
/// rounded up to a power of two.
const PLACES_KEPT: usize = 256;

/// Bytes of the queues that a worker keeps, at most.
pub(super) const POOL_BYTES: u64 =
    (POOL_LEN_MAX * (2 * PLACES_KEPT * size_of::<u32>() + size_of::<Queues>())) as u64;

/// Queues that are lent to no session.
#[derive(Default)]
pub struct QueuePool {
    /// Boxed, because a session holds them by a pointer.
    #[allow(clippy::vec_box, reason = "queues are boxed in and outside the pool")]
    free: Vec<Box<Queues>>,
}

impl QueuePool {
    /// Empty queues.
    #[inline]
    pub fn take(&mut self) -> Box<Queues> {
        self.free.pop().unwrap_or_default()
    }

    /// Gives queues back.
    #[inline]
    pub fn put(&mut self, mut queues: Box<Queues>) {
        if self.free.len() < POOL_LEN_MAX {
            queues.clear(PLACES_KEPT);
            self.free.push(queues);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Class, GroupId};

    const ID: GroupId = GroupId { archive: 2, group: 7 };

    #[test]
    fn queues_that_were_given_back_are_lent_again_empty() {
        let mut pool = QueuePool::default();
        let mut queues = pool.take();
        assert!(queues.push(Class::Prefetch, ID, 1));
        let address = &raw const *queues;
        pool.put(queues);
        let queues = pool.take();
        assert_eq!((&raw const *queues, queues.len()), (address, (0, 0)));
    }

    #[test]
    fn the_pool_keeps_no_more_queues_than_its_bound() {
        let mut pool = QueuePool::default();
        let lent: Vec<_> = (0..=POOL_LEN_MAX).map(|_| pool.take()).collect();
        lent.into_iter().for_each(|queues| pool.put(queues));
        assert_eq!(pool.free.len(), POOL_LEN_MAX);
    }
}
