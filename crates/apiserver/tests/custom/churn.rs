//! Definitions that come, change and go while objects are written and watched, by a seed that a failure names.

use std::{sync::Arc, time::Duration};

use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

use super::{DEFINITIONS, condition, definition, harness::*, until};

const SEEDS: u64 = 4;
const ROUNDS: usize = 40;
const KINDS: [(&str, &str); 3] = [("widgets", "Widget"), ("gadgets", "Gadget"), ("gizmos", "Gizmo")];

fn collection(plural: &str) -> String {
    format!("/apis/example.com/v1/namespaces/default/{plural}")
}

/// Anything but a definition's or an object's absence, or a definition on its way, is a fault.
fn is_fair(code: u16) -> bool {
    matches!(code, 200 | 201 | 404 | 405 | 409)
}

async fn write_objects(server: Arc<Server>, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    for round in 0..ROUNDS * 4 {
        let (plural, kind) = KINDS[random.random_range(0..KINDS.len())];
        let path = collection(plural);
        let name = format!("o{}", random.random_range(0..6));
        let object = json!({"apiVersion": "example.com/v1", "kind": kind, "metadata": {"name": name},
            "spec": {"color": format!("c{round}")}});
        let answer = match random.random_range(0..4) {
            0 | 1 => server.post(&path, &object).await,
            2 => server.patch(&format!("{path}/{name}"), merge_patch(), &json!({"spec": object["spec"]})).await,
            _ => server.delete(&format!("{path}/{name}")).await,
        };
        assert!(is_fair(answer.code()), "seed {seed}: {plural}/{name}: {} {}", answer.code(), answer.text());
        if answer.code() == 201 {
            // What was acknowledged is there, unless it or its definition went.
            let read = server.get(&format!("{path}/{name}")).await;
            assert!(matches!(read.code(), 200 | 404), "seed {seed}: {}", read.text());
        }
        tokio::task::yield_now().await;
    }
}

async fn churn_definitions(server: Arc<Server>, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    for round in 0..ROUNDS {
        let (plural, kind) = KINDS[random.random_range(0..KINDS.len())];
        let path = format!("{DEFINITIONS}/{plural}.example.com");
        let answer = match random.random_range(0..4) {
            0 | 1 => server.post(DEFINITIONS, &definition(plural, kind)).await,
            2 => {
                let column = json!({"spec": {"names": {"categories": [format!("c{round}")]}}});
                server.patch(&path, merge_patch(), &column).await
            }
            _ => server.delete(&path).await,
        };
        assert!(is_fair(answer.code()), "seed {seed}: {plural}: {} {}", answer.code(), answer.text());
        tokio::time::sleep(Duration::from_millis(random.random_range(0..4))).await;
    }
}

/// Once all is quiet, what is served is what is defined, and nothing is left of what is not.
async fn is_settled(server: &Server, seed: u64) {
    for (plural, kind) in KINDS {
        let path = format!("{DEFINITIONS}/{plural}.example.com");
        until(server, &path, |code, it| code == 404 || it["metadata"]["deletionTimestamp"].is_null()).await;
        if server.get(&path).await.code() == 404 {
            until(server, &collection(plural), |code, _| code == 404).await;
            server.post(DEFINITIONS, &definition(plural, kind)).await.expect(201);
            until(server, &path, |_, it| condition(it, "Established")["status"] == "True").await;
            let list = server.get(&collection(plural)).await.expect(200);
            assert_eq!(list["items"], Value::Array(Vec::new()), "seed {seed}: objects outlived {plural}");
            continue;
        }
        until(server, &path, |_, it| condition(it, "Established")["status"] == "True").await;
        let list = server.get(&collection(plural)).await.expect(200);
        for item in list["items"].as_array().unwrap() {
            let name = item["metadata"]["name"].as_str().unwrap();
            assert_eq!(server.get(&format!("{}/{name}", collection(plural))).await.expect(200), *item, "seed {seed}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn definitions_come_and_go_while_objects_are_written() {
    for seed in 0..SEEDS {
        let server = Arc::new(Server::start().await);
        let writers = (0..3).map(|writer| tokio::spawn(write_objects(server.clone(), seed * 16 + writer)));
        let writers: Vec<_> = writers.collect();
        churn_definitions(server.clone(), seed).await;
        for writer in writers {
            writer.await.unwrap_or_else(|cause| panic!("seed {seed}: {cause}"));
        }
        is_settled(&server, seed).await;
    }
}
