//! Work that waits for the kernel, on threads where it keeps nobody else waiting.

use std::{
    collections::{HashMap, VecDeque},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tokio::{
    runtime::{Handle, Id},
    sync::{Semaphore, oneshot},
};

/// How much of it is done at the same time, in all of the process. A hundred pods that end together have hundreds of
/// mounts and links to take away, which the kernel takes one after the other; a thread for each would stay for a while,
/// with a stack and what the allocator holds ready for it. The runtime's own blocking threads have no such bound: a
/// thread that is through with something takes a moment to be free again, and the next work gets a new one meanwhile.
const AT_ONCE: usize = 24;
/// A thread without work ends after this long.
const IDLE: Duration = Duration::from_secs(10);

/// One for each runtime: threads are in the network namespace of those who made them, of which tests have several. The
/// program has one.
static CREWS: LazyLock<Mutex<HashMap<Id, Arc<Crew>>>> = LazyLock::new(Mutex::default);

/// The work crashed, or there was no thread for it.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the work ended early")]
pub struct Lost;

/// Does `work`, which takes milliseconds and waits for nothing but this machine, as soon as there is room. Work
/// that nobody waits for any more keeps its room until it is done.
pub async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Lost> {
    let crew = Crew::of(&Handle::current());
    // Nobody closes it.
    let room = crew.room.clone().acquire_owned().await.ok();
    let (tell, told) = oneshot::channel();
    crew.give(Box::new(move || {
        let done = catch_unwind(AssertUnwindSafe(work));
        drop(room);
        if let Ok(done) = done {
            _ = tell.send(done);
        }
    }));
    told.await.map_err(|_| Lost)
}

type Work = Box<dyn FnOnce() + Send>;

/// Threads that come when there is work and go when there is none.
struct Crew {
    room: Arc<Semaphore>,
    state: Mutex<State>,
    call: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Work>,
    threads: usize,
    idle: usize,
}

impl Crew {
    fn of(runtime: &Handle) -> Arc<Self> {
        let mut all = CREWS.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Self { room: Arc::new(Semaphore::new(AT_ONCE)), state: Mutex::default(), call: Condvar::new() };
        all.entry(runtime.id()).or_insert_with(|| Arc::new(new())).clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give(self: &Arc<Self>, work: Work) {
        let mut state = self.state();
        state.waiting.push_back(work);
        if state.waiting.len() <= state.idle || state.threads == AT_ONCE {
            self.call.notify_one();
        } else if let Err(error) = self.grow(&mut state) {
            tracing::error!(%error, "there is no thread for work that waits for the kernel");
        }
    }

    fn grow(self: &Arc<Self>, state: &mut State) -> io::Result<()> {
        let crew = self.clone();
        let made = thread::Builder::new().name("knarr-aside".to_owned()).spawn(move || crew.work());
        match made {
            Ok(_) => state.threads += 1,
            // Others take it when they are through; without them nobody would.
            Err(_) if state.threads > 0 => {}
            Err(error) => {
                state.waiting.clear();
                return Err(error);
            }
        }
        Ok(())
    }

    fn work(&self) {
        let mut state = self.state();
        loop {
            if let Some(work) = state.waiting.pop_front() {
                drop(state);
                work();
                state = self.state();
                continue;
            }
            state.idle += 1;
            let (woken, waited) = self.call.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            if waited.timed_out() && state.waiting.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }
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
        assert_eq!(
            Crew::of(&Handle::current()).state().threads,
            AT_ONCE,
            "one that crashed is not missing, and one that ends is not doubled"
        );
    }
}
