//! The promises of the trait, the same for every store: in memory, on disk, and over etcd.
//!
//! etcd is another program. Without `KNARR_TEST_ETCD` its rows are counted as ignored; `./x test` sets it, and a
//! program that is missing then is a failure.

#[path = "../common/etcd.rs"]
mod etcd;
mod over_etcd;
mod steps;
mod trait_;

use std::sync::Arc;

use futures::future::BoxFuture;
use knarr_store::{EmbeddedStore, MemoryStore, Store, engine::disk::DiskEngine};
use libtest_mimic::{Arguments, Trial};

use etcd::Etcd;

type Promise = fn(Arc<dyn Store>) -> BoxFuture<'static, ()>;

/// One row a promise: its name is that of the function.
macro_rules! promises {
    ($($name:ident),+ $(,)?) => {
        &[$((stringify!($name), |store| Box::pin(trait_::$name(store)))),+]
    };
}

const PROMISES: &[(&str, Promise)] = promises![
    revisions_grow_by_one_and_nothing_takes_none,
    a_compare_that_fails_writes_nothing_and_shows_what_is_there,
    ranges_are_bounded_ordered_and_historical,
    compaction_forgets_history_but_no_value,
    a_watch_tells_what_happened_once_and_in_order,
    a_watch_joins_history_and_live_without_a_seam,
    a_watch_from_now_on_tells_nothing_of_the_past,
    a_watcher_that_does_not_read_is_cut_off,
    what_lies_ahead_is_refused,
    keys_end_with_their_lease,
    a_lease_can_be_ended,
    of_many_who_want_the_same_one_wins,
    any_history_reads_like_a_map,
];

fn main() {
    let arguments = Arguments::from_args();
    let program = etcd::program();
    let mut trials = Vec::new();
    for (name, promise) in PROMISES {
        trials.push(Trial::test(format!("memory::{name}"), move || {
            run(async { promise(Arc::new(MemoryStore::default())).await });
            Ok(())
        }));
        trials.push(Trial::test(format!("disk::{name}"), move || {
            let dir = tempfile::tempdir()?;
            let path = dir.path().to_owned();
            run(async move {
                promise(Arc::new(EmbeddedStore::open(DiskEngine::open(&path, |_| None).unwrap()).unwrap())).await;
            });
            Ok(())
        }));
        let given = program.clone();
        let over_etcd = Trial::test(format!("etcd::{name}"), move || {
            let etcd = Etcd::new(given.ok_or("no etcd")?);
            run(async {
                etcd.wait().await;
                promise(Arc::new(etcd.store("", "/test/"))).await;
            });
            Ok(())
        });
        trials.push(over_etcd.with_ignored_flag(program.is_none()));
    }
    for (name, check) in over_etcd::CHECKS {
        let given = program.clone();
        let trial = Trial::test(format!("etcd::{name}"), move || {
            let etcd = Etcd::new(given.ok_or("no etcd")?);
            run(async {
                etcd.wait().await;
                check(etcd).await;
            });
            Ok(())
        });
        trials.push(trial.with_ignored_flag(program.is_none()));
    }
    if program.is_none() {
        eprintln!("SKIPPED: everything over etcd; {} names no etcd (`./x test` does)", etcd::PROGRAM);
    }
    libtest_mimic::run(&arguments, trials).exit();
}

fn run(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(future);
}
