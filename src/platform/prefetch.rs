//! Asking the processor for memory that will be read soon.
#![allow(unsafe_code, reason = "the prefetch instruction takes a pointer")]

/// What one instruction fetches.
const LINE_LEN: usize = 64;

/// Begins to fetch the first `len_max` bytes of `value` into the core's cache. Only a hint:
/// nothing where the processor has none that stable Rust can name.
#[inline]
pub fn fetch<T>(values: &[T], len_max: usize) {
    let start = values.as_ptr().cast::<i8>();
    let len = size_of_val(values).min(len_max);
    for at in (0..len).step_by(LINE_LEN) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: the instruction reads nothing and faults on no address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(at)) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (start, at);
    }
}
