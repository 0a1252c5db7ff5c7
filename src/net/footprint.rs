//! The memory that serving needs, in bytes: the terms of the sum in docs/limits.md.
//!
//! Terms that follow from a bound are computed from its constants. The others were measured, and
//! tests/features/memory.rs fails if a running server differs by more than a tenth.

use super::batch::{COPY_LEN_MAX, POOL_LEN_MAX, SCRATCH_KEPT_MAX, Segment};
use super::connection::SEND_LEN_MAX;
use super::driver::{Driver, GAME, WORKER};
use super::game;
use super::queue_pool::POOL_BYTES as QUEUE_POOL_BYTES;

/// A connection whatever it does: machine, read buffer, its places in the tables. Measured.
const CONNECTION_BYTES: u64 = 650;

/// Beside it, with a cap on what is sent: its place in the order, and a tree's while it waits.
pub const CAPPED_BYTES: u64 = 170;

/// Beside it, with a limit an address: the address' count, in a table that doubles.
pub const ADDRESS_BYTES: u64 = 96;

/// Beside it, of one that has said nothing yet: its place, and its address' count. Counted for
/// every connection, as the table keeps its size.
pub const SILENT_BYTES: u64 = 48 + ADDRESS_BYTES;

/// What the kernel keeps of a socket that carries nothing. Measured: 5,120 to 5,400.
pub const SOCKET_BYTES: u64 = 5_400;

/// An output's copied bytes, as far as they can be touched: a mapping of their own, in pages, with
/// the allocator's header before them.
pub const OUTPUT_COPIED_BYTES: u64 = (SCRATCH_KEPT_MAX as u64 + 16).next_multiple_of(4096);

/// An output's segments and vectors: at most as many in place as fit a send, each after a run of
/// copied bytes.
pub const OUTPUT_SEGMENTS_BYTES: u64 = {
    let segments = 2 * (SEND_LEN_MAX / COPY_LEN_MAX) + 1;
    (segments * (size_of::<Segment>() + size_of::<libc::iovec>())) as u64
};

/// An opening, beside its socket: task and buffer, measured, and the part of a PROXY header that
/// has arrived.
const OPENING_BYTES: u64 = 1_400 + 4_096;

/// A game connection, beside its two sockets: a buffer each way, and its task.
const GAME_CONNECTION_BYTES: u64 = 2 * game::GAME_BUFFER_LEN as u64 + 1_060;

/// The touched stack and the runtime of a thread that serves. Measured.
const THREAD_BYTES: u64 = 36 << 10;

/// Both queues of a connection: four bytes a request, in rings that double as they grow.
#[must_use]
pub const fn queues_bytes(queue_len_max: usize) -> u64 {
    2 * 4 * queue_len_max.next_power_of_two() as u64
}

/// A connection whatever it does.
#[must_use]
pub const fn connection_bytes(driver: Driver) -> u64 {
    CONNECTION_BYTES + driver.socket_bytes()
}

/// A connection that has not said whose it is, beside its socket.
#[must_use]
pub const fn opening_bytes(driver: Driver) -> u64 {
    OPENING_BYTES + driver.socket_bytes()
}

/// A game connection, beside its two sockets.
#[must_use]
pub const fn game_connection_bytes(driver: Driver) -> u64 {
    GAME_CONNECTION_BYTES + 2 * driver.socket_bytes()
}

/// The most that a peer can bring about: it has filled its queues and an output, and reads
/// nothing.
#[must_use]
pub const fn peer_bytes_max(driver: Driver, queue_len_max: usize) -> u64 {
    connection_bytes(driver)
        + queues_bytes(queue_len_max)
        + OUTPUT_COPIED_BYTES
        + OUTPUT_SEGMENTS_BYTES
        + SOCKET_BYTES
}

/// A worker: its driver, its thread, and outputs and queues kept for reuse.
#[must_use]
pub const fn worker_bytes(driver: Driver) -> u64 {
    let pool = POOL_LEN_MAX as u64 * (OUTPUT_COPIED_BYTES + OUTPUT_SEGMENTS_BYTES);
    driver.thread_bytes(WORKER) + THREAD_BYTES + pool + QUEUE_POOL_BYTES
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
        assert_eq!(peer_bytes_max(Driver::Ring, 200), 88_010);
        assert_eq!(Driver::Ring.thread_bytes(WORKER), 784 << 10);
        assert_eq!(Driver::Ring.thread_bytes(GAME), 324 << 10);
    }
}
