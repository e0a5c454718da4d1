//! What a command works with: its flags, and the server behind them once it is asked for.

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::{
    api::{Api, Query},
    discovery::Discovery,
    error::Result,
    flags::{DryRun, Flags},
    kubeconfig::Kubeconfig,
};

pub struct Cx {
    pub flags: Flags,
    /// The command as it was typed: `knarr rollout status`.
    pub command: String,
    config: OnceCell<Kubeconfig>,
    api: OnceCell<Api>,
    discovery: OnceCell<Discovery>,
}

impl Cx {
    pub fn new(command: String, flags: Flags) -> Self {
        Self { flags, command, config: OnceCell::new(), api: OnceCell::new(), discovery: OnceCell::new() }
    }

    async fn config(&self) -> Result<&Kubeconfig> {
        self.config.get_or_try_init(|| async { Kubeconfig::for_requests(&self.flags) }).await
    }

    pub async fn api(&self) -> Result<&Api> {
        let config = self.config().await?;
        self.api.get_or_try_init(|| Api::connect(config, &self.flags)).await
    }

    pub async fn discovery(&self) -> Result<&Discovery> {
        let api = self.api().await?;
        self.discovery.get_or_try_init(|| Discovery::load(api)).await
    }

    /// The namespace of requests.
    pub async fn namespace(&self) -> Result<String> {
        Ok(self.config().await?.namespace(&self.flags).0)
    }

    /// The namespace that a flag asks for; objects of files must not name another.
    pub fn asked_namespace(&self) -> Option<&str> {
        self.flags.some("namespace")
    }

    pub fn dry_run(&self) -> Result<DryRun> {
        self.flags.dry_run()
    }

    /// What every writing request says: who manages the fields, and whether it is only tried.
    pub fn write_query(&self, manager: &str) -> Result<Query> {
        let manager = self.flags.some("field-manager").unwrap_or(manager);
        let dry = matches!(self.dry_run()?, DryRun::Server).then_some("All");
        Ok(Query::default().add("fieldManager", manager).some("dryRun", dry))
    }

    /// How strictly the server reads fields it does not know.
    pub fn validation(&self) -> Result<&'static str> {
        match self.flags.text("validate").unwrap_or("strict") {
            "true" | "strict" => Ok("Strict"),
            "warn" => Ok("Warn"),
            "false" | "ignore" => Ok("Ignore"),
            other => Err(crate::fail!(
                "invalid - validate option \"{other}\"; must be one of \"strict\" (or \"true\"), \"warn\", \"ignore\" (or \"false\")"
            )),
        }
    }

    pub fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// Writes to standard output; where nobody reads any more, the command ends.
pub fn write_out(text: &str) -> Result<()> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// A line on standard output.
#[macro_export]
macro_rules! say {
    ($($words:tt)*) => { $crate::cx::write_out(&format!("{}\n", format_args!($($words)*))) };
}

/// The value at a path of field names; null where there is none.
pub fn dig<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.').filter(|part| !part.is_empty()).fold(value, |value, part| &value[part])
}

/// The text at a path; empty where there is none.
pub fn dig_str<'a>(value: &'a Value, path: &str) -> &'a str {
    dig(value, path).as_str().unwrap_or_default()
}

pub fn items(value: &Value) -> impl DoubleEndedIterator<Item = &Value> {
    value.as_array().map(Vec::as_slice).unwrap_or_default().iter()
}

/// A place to write to, made where it is missing.
pub fn dig_mut<'a>(value: &'a mut Value, path: &str) -> &'a mut Value {
    path.split('.').fold(value, |value, part| {
        if value.is_null() {
            *value = Value::Object(Default::default());
        }
        &mut value[part]
    })
}
