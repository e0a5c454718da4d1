//! Collections on a scripted runtime; how full the disk is the settings pretend.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{Collector, ImageGc};
use crate::{
    pod::manager::Manager,
    testing::{FakeApi, FakeRuntime, context, eventually},
};

#[tokio::test(start_paused = true)]
async fn a_disk_that_stays_full_is_told() {
    let (api, runtime) = (FakeApi::new(), Arc::new(FakeRuntime::new(&["idle:1"])));
    let (dir, stop) = (tempfile::tempdir().unwrap(), CancellationToken::new());
    let (mut ctx, _) = context(&api, &runtime, dir.path(), &stop);
    // Any disk is fuller than that.
    let always = ImageGc { high_percent: 0, low_percent: 0, min_age: Duration::ZERO, max_age: Duration::ZERO };
    Arc::get_mut(&mut ctx).unwrap().image_gc = always;
    let manager = Manager::new(ctx.clone());
    let collector = Collector::new(ctx, manager);
    let _stop = stop.clone().drop_guard();
    tokio::spawn(async move { stop.run_until_cancelled(collector.run()).await });
    let told = eventually("that it was too little", || api.told("FreeDiskSpaceFailed")).await;
    assert!(told.starts_with("Failed to garbage collect required amount of images. Attempted to free "), "{told}");
    assert!(told.ends_with(" bytes, but only found 42 bytes eligible to free."), "{told}");
    assert!(!runtime.has_image("idle:1"));
    // The first failure may be one of beginning.
    assert_eq!(api.told("ImageGCFailed"), None);
    let told = eventually("that it failed again", || api.told("ImageGCFailed")).await;
    assert!(told.ends_with(" bytes, but only found 0 bytes eligible to free."), "{told}");
}
