//! The memory that serving needs, in bytes: the terms of the sum in docs/limits.md.
//!
//! Terms that follow from a bound are computed from its constants. The others were measured, and
//! tests/features/memory.rs fails if a running server differs by more than a tenth.

use super::batch::{COPY_LEN_MAX, POOL_LEN_MAX, SCRATCH_KEPT_MAX, Segment};
use super::connection::SEND_LEN_MAX;
use super::driver::{Driver, GAME, READ_LEN, READINESS_BYTES, WORKER};
use super::game;
use super::queue_pool::POOL_BYTES as QUEUE_POOL_BYTES;

/// A connection: itself with its machine, entries in tables. Measured.
pub const CONNECTION_BYTES: u64 = 380;

/// In addition, under a cap on bandwidth: its share, and a tree's entry while it waits.
pub const CAPPED_BYTES: u64 = 170;

/// In addition, with a limit for each address: the address' count, in a table that grows by
/// doubling.
pub const ADDRESS_BYTES: u64 = 96;

/// In addition, for a silent connection: its permit, and its address' count. Counted for every
/// connection, because the table does not shrink.
pub const SILENT_BYTES: u64 = 48 + ADDRESS_BYTES;

/// The kernel's memory of a socket without data. Measured: 5,120 to 5,400.
pub const SOCKET_BYTES: u64 = 5_400;

/// The copied bytes of a batch: the allocator makes a mapping for them, in whole pages, with its
/// header before them.
pub const OUTPUT_COPIED_BYTES: u64 = (SCRATCH_KEPT_MAX as u64 + 16).next_multiple_of(4096);

/// The segments and vectors of a batch: at most as many segments in place as fit a send, and a run
/// of copied bytes before each and after the last.
pub const OUTPUT_SEGMENTS_BYTES: u64 = {
    let segments = 2 * (SEND_LEN_MAX / COPY_LEN_MAX) + 1;
    (segments * (size_of::<Segment>() + size_of::<libc::iovec>())) as u64
};

/// An opening, without its socket: its state, measured, and the part of a PROXY header that has
/// arrived. The driver sends nothing to it.
pub const OPENING_BYTES: u64 = 640 + 4_096;

/// A game connection, without its two sockets: a buffer each way, and its task.
const GAME_CONNECTION_BYTES: u64 = 2 * game::GAME_BUFFER_LEN as u64 + 1_060;

/// The used stack and the runtime of a worker's or the game's thread. Measured.
const THREAD_BYTES: u64 = 36 << 10;

/// Both queues of a connection: four bytes a request, in rings that double as they grow.
#[must_use]
pub const fn queues_bytes(queue_len_max: usize) -> u64 {
    2 * 4 * queue_len_max.next_power_of_two() as u64
}

/// A connection that holds nothing of its peer's, without the kernel's memory. The driver may have
/// waited to send to it.
#[must_use]
pub const fn connection_bytes_max(driver: Driver) -> u64 {
    CONNECTION_BYTES + driver.socket_bytes()
}

/// A game connection, without the kernel's memory of its two sockets.
#[must_use]
pub const fn game_connection_bytes(driver: Driver) -> u64 {
    GAME_CONNECTION_BYTES + 2 * driver.socket_bytes()
}

/// The most memory that one peer can cause to be used: it has filled its queues and a batch, what
/// it has sent in addition is unread, and it reads nothing.
#[must_use]
pub const fn peer_bytes_max(driver: Driver, queue_len_max: usize) -> u64 {
    connection_bytes_max(driver)
        + READ_LEN as u64
        + queues_bytes(queue_len_max)
        + OUTPUT_COPIED_BYTES
        + OUTPUT_SEGMENTS_BYTES
        + SOCKET_BYTES
}

/// A worker: its driver, its thread, and batches and queues kept for reuse.
#[must_use]
pub const fn worker_bytes(driver: Driver) -> u64 {
    let pool = POOL_LEN_MAX as u64 * (OUTPUT_COPIED_BYTES + OUTPUT_SEGMENTS_BYTES);
    driver.thread_bytes(WORKER) + READINESS_BYTES + THREAD_BYTES + pool + QUEUE_POOL_BYTES
}

/// The game's thread: its driver, and buffers kept for reuse.
#[must_use]
pub const fn game_thread_bytes(driver: Driver) -> u64 {
    let pool = (game::POOL_LEN_MAX * game::GAME_BUFFER_LEN) as u64;
    driver.thread_bytes(GAME) + THREAD_BYTES + pool
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_terms_are_those_of_the_documentation() {
        assert_eq!(queues_bytes(200), 2048);
        assert_eq!(queues_bytes(256), 2048);
        assert_eq!(queues_bytes(257), 4096);
        assert_eq!(OUTPUT_COPIED_BYTES, 68 << 10);
        assert_eq!(OUTPUT_SEGMENTS_BYTES, 257 * 40);
        assert_eq!(peer_bytes_max(Driver::Ring, 200), 88_740);
        assert_eq!(Driver::Ring.thread_bytes(WORKER), 784 << 10);
        assert_eq!(Driver::Ring.thread_bytes(GAME), 324 << 10);
    }
}
