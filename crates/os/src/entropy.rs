//! Randomness that can be replayed, for simulations.

/// Defines the C library's `getrandom` for the binary that expands it, so that what the standard library, tokio and
/// others take for randomness (the order of hash maps, the branch that `select!` looks at first) comes from `fill`,
/// a `fn(&mut [u8])`. The standard library refers to the symbol weakly so that it can be replaced.
///
/// Only for the root of a simulation's binary, never for a library: a program that holds secrets must not link it.
#[macro_export]
macro_rules! replace_getrandom {
    ($fill:path) => {
        #[unsafe(no_mangle)]
        extern "C" fn getrandom(buffer: *mut u8, length: usize, _flags: u32) -> isize {
            if length > 0 {
                // SAFETY: getrandom(2) is called with `length` writable bytes at `buffer`, which nobody else uses
                // during the call. A slice is what safe code can fill.
                $fill(unsafe { std::slice::from_raw_parts_mut(buffer, length) });
            }
            length as isize
        }
    };
}
