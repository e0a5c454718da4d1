//! The allocator of the whole program: jemalloc with few arenas and quick return of memory to the kernel, because
//! Knarr idles for most of its life (`docs/benchmarks.md` has what that saves).
//!
//! Its background thread is off until [`start_background_thread`], because a shim must stay single-threaded.

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// A C string that jemalloc reads before `main`.
#[repr(transparent)]
pub struct Options(*const u8);
// SAFETY: the pointer is to a constant string that nobody writes.
unsafe impl Sync for Options {}

// SAFETY: the name is jemalloc's own symbol for its options, defined nowhere else, and has the type it expects:
// a pointer to a string that ends with NUL and lives as long as the program.
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static OPTIONS: Options = Options(c"dirty_decay_ms:1000,muzzy_decay_ms:0,narenas:2".as_ptr().cast());

/// Lets jemalloc give unused memory back to the kernel while the program is idle. Not for processes that fork.
pub fn start_background_thread() {
    if let Err(error) = tikv_jemalloc_ctl::background_thread::write(true) {
        tracing::warn!(%error, "the allocator has no background thread; idle memory stays higher");
    }
}

/// Bytes that the program holds, and bytes that the allocator has from the kernel for them.
pub fn usage_bytes() -> Option<(usize, usize)> {
    tikv_jemalloc_ctl::epoch::advance().ok()?;
    let allocated = tikv_jemalloc_ctl::stats::allocated::read().ok()?;
    let resident = tikv_jemalloc_ctl::stats::resident::read().ok()?;
    Some((allocated, resident))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_options_are_in_force() {
        assert_eq!(tikv_jemalloc_ctl::opt::narenas::read().unwrap(), 2);
        let (allocated, resident) = super::usage_bytes().unwrap();
        assert!(allocated > 0 && resident >= allocated);
    }
}
