//! `config`: looks at kubeconfig files and changes them.

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::Command;
use serde_json::{Map, Value, json};

use crate::{
    cx::{Cx, dig_str, write_out},
    error::{Error, Result},
    fail,
    flags::{self, switch, text},
    kubeconfig::{self, Kubeconfig, entries, entry_mut},
    output::{Format, Printer},
    say, tabs, yaml,
};

pub fn command() -> Command {
    let sub = |name, about, usage, own| flags::command(name, about, usage, own);
    let mut view = vec![
        switch("raw", "Show certificates and tokens"),
        switch("minify", "Only what the current context needs"),
        switch("flatten", "Put what files hold into the configuration"),
    ];
    view.extend(flags::output());
    let embed = || switch("embed-certs", "Put certificates into the file");
    Command::new("config").about("Modify kubeconfig files").subcommand_required(true).subcommands([
        sub("view", "Display merged kubeconfig settings", "", view),
        sub("current-context", "Display the current-context", "", vec![]),
        sub(
            "get-contexts",
            "Describe one or many contexts",
            "NAME",
            vec![switch("no-headers", "Leave out the headers"), text("output", "name").short('o')],
        ),
        sub("get-clusters", "Display clusters defined in the kubeconfig", "", vec![]),
        sub("get-users", "Display users defined in the kubeconfig", "", vec![]),
        sub("use-context", "Set the current-context in a kubeconfig file", "NAME", vec![]).visible_alias("use"),
        sub("rename-context", "Rename a context from the kubeconfig file", "OLD NEW", vec![]),
        sub("delete-context", "Delete the specified context from the kubeconfig", "NAME", vec![]),
        sub("delete-cluster", "Delete the specified cluster from the kubeconfig", "NAME", vec![]),
        sub("delete-user", "Delete the specified user from the kubeconfig", "NAME", vec![]),
        sub(
            "set-context",
            "Set a context entry in kubeconfig",
            "NAME",
            vec![switch("current", "Change the current context")],
        ),
        sub("set-cluster", "Set a cluster entry in kubeconfig", "NAME", vec![embed(), text("proxy-url", "A proxy")]),
        sub(
            "set-credentials",
            "Set a user entry in kubeconfig",
            "NAME",
            vec![embed(), text("username", "A user name"), text("password", "Its password")],
        ),
    ])
}

pub fn run(cx: &Cx, what: &str) -> Result<()> {
    let mut config = Kubeconfig::load(&cx.flags)?;
    let args = cx.flags.args();
    let one = || match args.as_slice() {
        [name] => Ok(*name),
        _ => Err(Error::Usage(format!("you must specify exactly one name: {}", cx.command))),
    };
    match what {
        "view" => view(cx, config),
        "current-context" => match config.current() {
            "" => Err(fail!("current-context is not set")),
            name => say!("{name}"),
        },
        "get-contexts" => contexts(cx, &config),
        "get-clusters" | "get-users" => {
            let names: Vec<&str> = config.names(if what == "get-users" { "users" } else { "clusters" }).collect();
            let lines: String = names.iter().map(|name| format!("{name}\n")).collect();
            write_out(&format!("NAME\n{lines}"))
        }
        "use-context" => {
            let name = one()?;
            if config.entry("contexts", name).is_none() {
                return Err(fail!("no context exists with the name: \"{name}\""));
            }
            let (path, file) = config.file_of(|file| !dig_str(file, "current-context").is_empty())?;
            file["current-context"] = name.into();
            kubeconfig::write(path, file)?;
            say!("Switched to context \"{name}\".")
        }
        "rename-context" => rename(&mut config, &args),
        "delete-context" => remove(&mut config, "contexts", "context", one()?),
        "delete-cluster" => remove(&mut config, "clusters", "cluster", one()?),
        "delete-user" => remove(&mut config, "users", "user", one()?),
        "set-context" => {
            let name = if cx.flags.on("current") { config.current().to_owned() } else { one()?.to_owned() };
            let fields = [("cluster", "cluster"), ("user", "user"), ("namespace", "namespace")];
            set(cx, &mut config, "contexts", "Context", &name, &fields)
        }
        "set-cluster" => {
            let fields = [
                ("server", "server"),
                ("certificate-authority", "certificate-authority"),
                ("tls-server-name", "tls-server-name"),
                ("proxy-url", "proxy-url"),
            ];
            set(cx, &mut config, "clusters", "Cluster", one()?, &fields)
        }
        _ => {
            let fields = [
                ("token", "token"),
                ("client-certificate", "client-certificate"),
                ("client-key", "client-key"),
                ("username", "username"),
                ("password", "password"),
            ];
            set(cx, &mut config, "users", "User", one()?, &fields)
        }
    }
}

fn view(cx: &Cx, config: Kubeconfig) -> Result<()> {
    let mut shown = config.merged.clone();
    if let Some(name) = cx.flags.some("context") {
        shown["current-context"] = name.into();
    }
    if cx.flags.on("minify") {
        let name = config.context(&cx.flags).to_owned();
        let context = match config.entry("contexts", &name) {
            Some(context) => context.clone(),
            None if name.is_empty() => return Err(fail!("current-context must exist in order to minify")),
            None => return Err(fail!("cannot locate context {name}")),
        };
        for (section, wanted) in [
            ("contexts", name.as_str()),
            ("clusters", dig_str(&context, "cluster")),
            ("users", dig_str(&context, "user")),
        ] {
            if let Some(list) = shown[section].as_array_mut() {
                list.retain(|entry| entry["name"] == wanted);
            }
        }
    }
    if cx.flags.on("flatten") {
        flatten(&mut shown)?;
    }
    if !cx.flags.on("raw") {
        kubeconfig::redact(&mut shown);
    }
    match Format::of(cx)? {
        Format::Default => write_out(&yaml::to_string(&shown)),
        format => Printer::new(cx, format).object(&shown),
    }
}

/// What files hold becomes part of the configuration.
fn flatten(config: &mut Value) -> Result<()> {
    for (section, field) in kubeconfig::SECTIONS {
        for entry in config[section].as_array_mut().into_iter().flatten() {
            for file in ["certificate-authority", "client-certificate", "client-key"] {
                if let Some(path) = entry[field][file].as_str().map(str::to_owned) {
                    embed(&mut entry[field], file, &path)?;
                }
            }
        }
    }
    Ok(())
}

fn embed(entry: &mut Value, field: &str, path: &str) -> Result<()> {
    let bytes = std::fs::read(path).map_err(|error| fail!("open {path}: {error}"))?;
    if let Some(map) = entry.as_object_mut() {
        map.remove(field);
        map.insert(format!("{field}-data"), STANDARD.encode(bytes).into());
    }
    Ok(())
}

fn contexts(cx: &Cx, config: &Kubeconfig) -> Result<()> {
    let args = cx.flags.args();
    let wanted = |entry: &&Value| args.is_empty() || args.contains(&dig_str(entry, "name"));
    let only_names = match cx.flags.some("output") {
        None => false,
        Some("name") => true,
        Some(other) => return Err(fail!("output must be one of '' or 'name': {other}")),
    };
    let mut table = String::new();
    if !only_names && !cx.flags.on("no-headers") {
        table += "CURRENT\tNAME\tCLUSTER\tAUTHINFO\tNAMESPACE\n";
    }
    for entry in entries(&config.merged, "contexts").filter(wanted) {
        let (name, context) = (dig_str(entry, "name"), &entry["context"]);
        let mark = if name == config.current() { "*" } else { "" };
        table += &match only_names {
            true => format!("{name}\n"),
            false => format!(
                "{mark}\t{name}\t{}\t{}\t{}\n",
                dig_str(context, "cluster"),
                dig_str(context, "user"),
                dig_str(context, "namespace")
            ),
        };
    }
    write_out(&tabs::TABLE.align(&table))?;
    match args.iter().find(|name| config.entry("contexts", name).is_none()) {
        Some(name) => Err(fail!("context {name} not found")),
        None => Ok(()),
    }
}

fn holds(section: &'static str, name: String) -> impl Fn(&Value) -> bool {
    move |file| entries(file, section).any(|entry| entry["name"] == name.as_str())
}

fn remove(config: &mut Kubeconfig, section: &'static str, noun: &str, name: &str) -> Result<()> {
    let was_current = section == "contexts" && config.current() == name;
    let (path, file) = config.file_of(holds(section, name.into()))?;
    let path: &Path = path;
    let list = file[section].as_array_mut().filter(|list| list.iter().any(|entry| entry["name"] == name));
    let Some(list) = list else {
        return Err(fail!("cannot delete {noun} {name}, not in {}", path.display()));
    };
    list.retain(|entry| entry["name"] != name);
    kubeconfig::write(path, file)?;
    if was_current {
        eprintln!(
            "warning: this removed your active context, use \"knarr config use-context\" to select a different one"
        );
    }
    say!("deleted {noun} {name} from {}", path.display())
}

fn rename(config: &mut Kubeconfig, args: &[&str]) -> Result<()> {
    let [old, new] = args else {
        return Err(Error::Usage("rename-context needs the old name and the new one".into()));
    };
    if config.entry("contexts", new).is_some() {
        return Err(fail!(
            "cannot rename the context \"{old}\", the context \"{new}\" already exists in kubeconfig file"
        ));
    }
    if config.entry("contexts", old).is_none() {
        return Err(fail!(
            "cannot rename the context \"{old}\", it's not in {}",
            config.files.first().map_or(String::new(), |(path, _)| path.display().to_string())
        ));
    }
    let (path, file) = config.file_of(holds("contexts", (*old).into()))?;
    for entry in file["contexts"].as_array_mut().into_iter().flatten().filter(|entry| entry["name"] == **old) {
        entry["name"] = (*new).into();
    }
    if file["current-context"] == **old {
        file["current-context"] = (*new).into();
    }
    kubeconfig::write(path, file)?;
    say!("Context \"{old}\" renamed to \"{new}\".")
}

fn set(
    cx: &Cx,
    config: &mut Kubeconfig,
    section: &'static str,
    noun: &str,
    name: &str,
    fields: &[(&str, &str)],
) -> Result<()> {
    let known = config.entry(section, name).is_some();
    let (path, file) = config.file_of(holds(section, name.into()))?;
    let entry = entry_mut(file, section, name);
    if !entry.is_object() {
        *entry = Value::Object(Map::new());
    }
    for (flag, field) in fields {
        let Some(value) = cx.flags.text(flag) else { continue };
        match (
            cx.flags.on("embed-certs") && field.contains("certificate")
                || cx.flags.on("embed-certs") && *field == "client-key",
            value,
        ) {
            (true, path) => embed(entry, field, path)?,
            (false, "") => _ = entry.as_object_mut().map(|map| map.remove(*field)),
            (false, value) => entry[*field] = value.into(),
        }
    }
    if section == "clusters"
        && let Some(skip) = cx.flags.switch("insecure-skip-tls-verify")
    {
        entry["insecure-skip-tls-verify"] = json!(skip);
    }
    kubeconfig::write(path, file)?;
    let what = if known { "modified" } else { "created" };
    match noun {
        "Context" => say!("Context \"{name}\" {what}."),
        _ => say!("{noun} \"{name}\" set."),
    }
}
