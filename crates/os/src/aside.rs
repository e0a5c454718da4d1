//! Work that waits for the kernel, on threads where it keeps nobody else waiting.

use tokio::{
    sync::Semaphore,
    task::{JoinError, spawn_blocking},
};

/// How much of it is done at the same time, in all of the process. A hundred pods that end together have hundreds of
/// mounts and links to take away, which the kernel takes one after the other; a thread for each would stay for a while,
/// with a stack and what the allocator holds ready for it.
const AT_ONCE: usize = 24;

static ROOM: Semaphore = Semaphore::const_new(AT_ONCE);

/// Does `work`, which takes milliseconds and waits for nothing but this machine, as soon as there is room. Work
/// that nobody waits for any more keeps its room until it is done.
pub async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    // Nobody closes it.
    let room = ROOM.acquire().await.ok();
    spawn_blocking(move || {
        let done = work();
        drop(room);
        done
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Barrier,
            atomic::{AtomicUsize, Ordering},
        },
        time::Duration,
    };

    use futures::future::join_all;

    use super::*;

    #[tokio::test]
    async fn there_is_a_bound_and_no_crash_takes_room_away() {
        static NOW: AtomicUsize = AtomicUsize::new(0);
        static MOST: AtomicUsize = AtomicUsize::new(0);
        static FULL: Barrier = Barrier::new(AT_ONCE);
        let work = |number| {
            aside(move || {
                MOST.fetch_max(NOW.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                FULL.wait();
                NOW.fetch_sub(1, Ordering::SeqCst);
                assert!(number % 2 == 0, "every other one crashes");
            })
        };
        let all = join_all((0..4 * AT_ONCE).map(work));
        let done = tokio::time::timeout(Duration::from_secs(30), all).await.unwrap();
        assert_eq!(MOST.load(Ordering::SeqCst), AT_ONCE);
        assert_eq!(done.iter().filter(|one| one.is_err()).count(), 2 * AT_ONCE);
    }
}
