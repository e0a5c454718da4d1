//! What `fuzz/` calls: readers of what users give to the command line.

use serde_json::Value;

use crate::{files, kubeconfig, kubeconfig::Kubeconfig, output::template::Template, yaml};

/// Manifests. An object that is printed as YAML has to be read as the same again.
pub fn manifests(text: &str) {
    let _ = files::parse("fuzz", text, &mut Vec::new());
    for document in yaml::parse_all(text).unwrap_or_default().into_iter().filter(Value::is_object) {
        let printed = yaml::to_string(&document);
        assert_eq!(yaml::parse_all(&printed).as_deref(), Ok(&[document][..]), "{printed}");
    }
}

pub fn kubeconfig(text: &str) {
    let Ok(mut config) = serde_yaml::from_str::<Value>(text) else { return };
    if !config.is_object() {
        return;
    }
    kubeconfig::redact(&mut config);
    let mut merged = kubeconfig::merge([&config, &config].into_iter());
    kubeconfig::redact(&mut merged);
    let config = Kubeconfig { merged, files: Vec::new() };
    let _ = config.entry("contexts", config.current());
    config.names("users").for_each(drop);
}

pub fn go_template(text: &str, data: &Value) {
    if let Ok(template) = Template::parse(text) {
        let _ = template.print(data);
    }
}
