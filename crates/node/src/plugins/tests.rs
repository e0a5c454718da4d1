//! Plugins that register over real sockets.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use knarr_grpc::server::{Reply, serve};
use prost::Message as _;
use tokio::{net::UnixListener, task::JoinHandle};

use super::{
    Handler, Handlers, Plugin, Registry,
    wire::{PluginInfo, RegistrationStatus, RegistrationStatusResponse},
};

/// Writes down what it is told, and refuses a plugin called `bad`.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

#[async_trait]
impl Handler for Notes {
    async fn register(&self, plugin: &Plugin) -> Result<(), String> {
        let Plugin { name, endpoint, versions } = plugin;
        let socket = endpoint.file_name().unwrap().to_string_lossy();
        self.0.lock().unwrap().push(format!("+{name} {socket} {versions:?}"));
        if name == "bad" { Err("no such luck".to_owned()) } else { Ok(()) }
    }

    async fn deregister(&self, plugin: &Plugin) {
        self.0.lock().unwrap().push(format!("-{}", plugin.name));
    }
}

struct Fake {
    told: Arc<Mutex<Vec<RegistrationStatus>>>,
    task: JoinHandle<()>,
}

fn plugin(socket: &Path, kind: &str, name: &str, endpoint: &str) -> Fake {
    let listener = UnixListener::bind(socket).unwrap();
    let supported_versions = vec!["v1.Service".to_owned()];
    let info = PluginInfo { r#type: kind.into(), name: name.into(), endpoint: endpoint.into(), supported_versions };
    let told = Arc::<Mutex<Vec<_>>>::default();
    let heard = told.clone();
    let answer = move |method: String, request: Bytes| {
        let (info, heard) = (info.clone(), heard.clone());
        async move {
            match &*method {
                "pluginregistration.Registration/GetInfo" => Ok(Reply::one(&info)),
                "pluginregistration.Registration/NotifyRegistrationStatus" => {
                    heard.lock().unwrap().push(RegistrationStatus::decode(request).unwrap());
                    Ok(Reply::one(&RegistrationStatusResponse {}))
                }
                other => panic!("nobody calls {other}"),
            }
        }
    };
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, answer.clone()));
        }
    });
    Fake { told, task }
}

async fn until<T: PartialEq + std::fmt::Debug>(expected: T, mut look: impl FnMut() -> T) {
    let wait = async {
        while look() != expected {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(10), wait).await;
    assert!(waited.is_ok(), "expected {expected:?}, is {:?}", look());
}

#[tokio::test]
async fn plugins_come_and_go_with_their_sockets() {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    std::fs::write(dir.path().join("no-socket"), "").unwrap();
    let notes = Arc::new(Notes::default());
    let handlers = Handlers::from([("DRAPlugin", notes.clone() as Arc<dyn Handler>)]);
    let registry = Registry::new(dir.path().to_owned(), handlers);
    let running = tokio::spawn(async move { registry.run().await });
    let heard = || notes.0.lock().unwrap().clone();
    let told = |fake: &Fake| fake.told.lock().unwrap().first().map(|status| status.error.clone());

    let socket = inner.join("good.sock");
    let good = plugin(&socket, "DRAPlugin", "good", "");
    until(Some(String::new()), || told(&good)).await;
    assert_eq!(heard(), [r#"+good good.sock ["v1.Service"]"#]);

    // It is started anew, with its service elsewhere.
    good.task.abort();
    std::fs::remove_file(&socket).unwrap();
    let again = plugin(&socket, "DRAPlugin", "good", "/run/other.sock");
    until(Some(String::new()), || told(&again)).await;
    assert_eq!(heard()[1..], ["-good", r#"+good other.sock ["v1.Service"]"#]);

    let odd = plugin(&dir.path().join("odd.sock"), "Odd", "odd", "");
    let odd_socket = dir.path().join("odd.sock").display().to_string();
    let expected = format!("RegisterPlugin error -- no handler registered for plugin type: Odd at socket {odd_socket}");
    until(Some(expected), || told(&odd)).await;

    let bad = plugin(&dir.path().join("bad.sock"), "DRAPlugin", "bad", "");
    let expected = "RegisterPlugin error -- plugin registration failed with err: no such luck";
    until(Some(expected.to_owned()), || told(&bad)).await;

    std::fs::remove_file(&socket).unwrap();
    until(Some("-good".to_owned()), || heard().iter().rfind(|word| word.contains("good")).cloned()).await;
    // The refused one is asked again, and later each time.
    let asked = || bad.told.lock().unwrap().len() > 1;
    until(true, asked).await;
    running.abort();
}
