//! What an idle connection costs is decided here: growth must be meant.

use super::connection::Connection;
use super::peer::Peer;

#[test]
fn a_connection_and_what_the_sweep_sees_of_it_grow_by_no_byte_unnoticed() {
    // With its two counts a peer fills a block of the allocator: the next byte costs 16.
    assert_eq!((size_of::<Connection>(), size_of::<Peer>()), (216, 72), "bytes");
}
