//! The allocator: what a crowd of peers needed for a while goes back to the system.
#![allow(unsafe_code, reason = "mallopt, which no crate wraps")]

/// Blocks of this many bytes and more are mappings of their own, which end when they are freed.
///
/// The copied bytes of a full output are as long. Left among small blocks they are freed into
/// the heap, which glibc shrinks from its end only: after 2,400 peers that had read nothing were
/// cut, 131 of 158 MB stayed with the process. As mappings, all but the 4 MB of the pool go.
#[cfg(target_env = "gnu")]
const MAPPED_FROM_BYTES: i32 = 64 << 10;

/// Makes large blocks go back to the system when they are freed. To be called before there are
/// threads. Does nothing where the C library is not glibc.
pub fn return_large_blocks() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: it sets a parameter of the allocator, and is given plain integers.
        let is_set = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_FROM_BYTES) } == 1;
        debug_assert!(is_set, "glibc accepts up to 32 MB");
    }
}
