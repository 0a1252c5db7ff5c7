//! Queues that a worker lends to its sessions.
//!
//! A fast peer's requests are answered in the pass that reads them, so its queues are empty before
//! the next connection is stepped. So a few queues are enough for all. They stay in the core's
//! cache, while each connection's own would have to be fetched, and an idle connection has none.

use crate::protocol::session::Queues;

/// Queues that a worker keeps.
const POOL_LEN_MAX: usize = 64;

/// Places of a class that they keep: the default of `--queue-len-max`, as queues grow.
const PLACES_KEPT: usize = 256;

/// What a worker keeps of them at most.
pub(super) const POOL_BYTES: u64 =
    (POOL_LEN_MAX * (2 * PLACES_KEPT * size_of::<u32>() + size_of::<Queues>())) as u64;

/// Queues that no session has at the moment.
#[derive(Default)]
pub struct QueuePool {
    /// Boxed already: a session holds no more than a pointer.
    #[allow(clippy::vec_box, reason = "queues are boxed when they come and when they go")]
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
    fn queues_that_come_back_are_empty_and_the_same() {
        let mut pool = QueuePool::default();
        let mut queues = pool.take();
        assert!(queues.push(Class::Prefetch, ID, 1));
        let address = &raw const *queues;
        pool.put(queues);
        let queues = pool.take();
        assert_eq!((&raw const *queues, queues.len()), (address, (0, 0)));
    }

    #[test]
    fn no_more_are_kept_than_the_pool_has_room_for() {
        let mut pool = QueuePool::default();
        let lent: Vec<_> = (0..=POOL_LEN_MAX).map(|_| pool.take()).collect();
        lent.into_iter().for_each(|queues| pool.put(queues));
        assert_eq!(pool.free.len(), POOL_LEN_MAX);
    }
}
