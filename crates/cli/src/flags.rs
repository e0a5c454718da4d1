//! Command lines as data: short words for the kinds of flags that kubectl has, and how they are read.

use std::str::FromStr;

use clap::{Arg, ArgAction, ArgMatches, Command, parser::ValueSource, value_parser};

use crate::{
    error::{Error, Result},
    fail,
};

/// How the help of a flag begins that kubectl has and that is refused here; what to do instead follows.
const REFUSED: &str = "Not supported: ";

/// Refuses the first flag that was given although it is not acted on.
pub fn check(command: &Command, given: &ArgMatches) -> Result<()> {
    for flag in command.get_arguments() {
        let (name, help) = (flag.get_id().as_str(), flag.get_help().map(ToString::to_string).unwrap_or_default());
        let is_off = matches!(given.try_get_one::<bool>(name), Ok(Some(false)));
        match help.strip_prefix(REFUSED) {
            Some(instead) if given.value_source(name) == Some(ValueSource::CommandLine) && !is_off => {
                return Err(fail!("--{name} is not supported by knarr: {instead}"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// A command whose words besides flags are in `args`, and those after `--` in `rest`.
pub fn command(name: &'static str, about: &'static str, usage: &'static str, flags: Vec<Arg>) -> Command {
    let args = Arg::new("args").num_args(0..).value_name(if usage.is_empty() { "ARG" } else { usage });
    let rest = Arg::new("rest").num_args(0..).last(true).allow_hyphen_values(true).value_name("COMMAND");
    // A flag of the command's own holds against kubectl's global one of that name.
    let own: Vec<String> = flags.iter().filter_map(|flag| flag.get_long().map(str::to_owned)).collect();
    let connection = connection().into_iter().filter(|flag| !own.iter().any(|own| flag.get_long() == Some(own)));
    Command::new(name).about(about).disable_version_flag(true).args(flags).args(connection).arg(args).arg(rest)
}

/// A flag with a value, which may begin with a hyphen as in `--tail -1`.
pub fn text(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).help(help).allow_hyphen_values(true).action(ArgAction::Set).overrides_with(name)
}

/// A flag that may be given several times, or once with commas.
pub fn list(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).help(help).allow_hyphen_values(true).action(ArgAction::Append)
}

/// A flag that is on or off: `--all`, `--all=false`.
pub fn switch(name: &'static str, help: &'static str) -> Arg {
    let arg = Arg::new(name).long(name).help(help).num_args(0..=1).require_equals(true).action(ArgAction::Set);
    arg.default_missing_value("true").value_parser(value_parser!(bool)).overrides_with(name).hide_possible_values(true)
}

pub fn dry_run() -> Arg {
    let arg = text("dry-run", "none, server, or client: only print what would be sent").num_args(0..=1);
    arg.require_equals(true).default_missing_value("unchanged")
}

/// Who to talk to: kubectl's global flags.
fn connection() -> Vec<Arg> {
    let flags = vec![
        text("kubeconfig", "The kubeconfig file to use"),
        text("context", "The context of the kubeconfig to use"),
        text("cluster", "The cluster of the kubeconfig to use"),
        text("user", "The user of the kubeconfig to use"),
        text("namespace", "The namespace of this request").short('n'),
        text("server", "The address of the API server").short('s'),
        text("token", "A bearer token for the API server"),
        text("certificate-authority", "A file with the server's certificate authority"),
        text("client-certificate", "A file with a client certificate"),
        text("client-key", "A file with the client certificate's key"),
        text("tls-server-name", "The name that the server's certificate must have"),
        switch("insecure-skip-tls-verify", "Do not check the server's certificate"),
        text("as", "The user to impersonate"),
        list("as-group", "The group to impersonate; may be repeated"),
        text("request-timeout", "How long one request may take"),
    ];
    flags.into_iter().map(|flag| flag.help_heading("Connection").hide_short_help(true)).collect()
}

/// Names of the flags that may stand before the command.
pub fn connection_names() -> Vec<(String, bool)> {
    let takes_value = |arg: &Arg| !arg.is_require_equals_set();
    connection().iter().map(|arg| (arg.get_id().to_string(), takes_value(arg))).collect()
}

pub fn output() -> Vec<Arg> {
    vec![
        text("output", "json, yaml, name, wide, jsonpath=, go-template=, custom-columns= and the like").short('o'),
        text("template", "The template for -o go-template, or the file for -o go-template-file"),
        switch("allow-missing-template-keys", "Print nothing for a field that a template does not find"),
        switch("show-managed-fields", "Keep metadata.managedFields in JSON and YAML"),
    ]
}

/// How a command that changes objects does it, and prints them.
pub fn writing() -> Vec<Arg> {
    [dry_run(), field_manager()].into_iter().chain(output()).collect()
}

pub fn files() -> Vec<Arg> {
    vec![
        list("filename", "Files, directories or URLs with resources; - is standard input").short('f'),
        switch("recursive", "Descend into the directories given by -f").short('R'),
        text("kustomize", "Not supported: write what `kubectl kustomize DIR` prints to a file, and use -f").short('k'),
    ]
}

pub fn selector() -> Arg {
    text("selector", "A label selector, such as app=web,tier!=cache").short('l')
}

pub fn field_selector() -> Arg {
    text("field-selector", "A field selector, such as status.phase=Running")
}

pub fn all_namespaces() -> Arg {
    switch("all-namespaces", "In all namespaces").short('A')
}

pub fn field_manager() -> Arg {
    text("field-manager", "The name under which fields are managed")
}

pub fn container() -> Arg {
    text("container", "The container").short('c')
}

/// How a container's streams meet this terminal.
pub fn terminal() -> [Arg; 2] {
    [switch("stdin", "Give standard input to the container").short('i'), switch("tty", "With a terminal").short('t')]
}

pub fn no_patience() -> Arg {
    text("pod-running-timeout", "Not supported: wait for the pod with `knarr wait`")
}

/// What was typed.
#[derive(Clone, Debug)]
pub struct Flags(pub ArgMatches);

impl Flags {
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.try_get_one::<String>(name).ok().flatten().map(String::as_str)
    }

    /// The value of a flag, where an empty one counts as none.
    pub fn some(&self, name: &str) -> Option<&str> {
        self.text(name).filter(|text| !text.is_empty())
    }

    pub fn on(&self, name: &str) -> bool {
        self.switch(name).unwrap_or(false)
    }

    pub fn switch(&self, name: &str) -> Option<bool> {
        self.0.try_get_one::<bool>(name).ok().flatten().copied()
    }

    /// The values of a repeated flag, each as it was typed.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.0.try_get_many::<String>(name).ok().flatten().into_iter().flatten().map(String::as_str).collect()
    }

    /// The values of a repeated flag, split at commas.
    pub fn list(&self, name: &str) -> Vec<&str> {
        self.all(name).into_iter().flat_map(|value| value.split(',')).filter(|value| !value.is_empty()).collect()
    }

    pub fn args(&self) -> Vec<&str> {
        self.all("args")
    }

    pub fn rest(&self) -> Vec<&str> {
        self.all("rest")
    }

    pub fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let bad = |_| fail!("invalid argument \"{text}\" for \"--{name}\" flag: invalid syntax");
        text.parse().map(Some).map_err(bad)
    }

    /// A length of time as Go writes it (`1m30s`), in seconds; a bare number counts seconds.
    pub fn seconds(&self, name: &str) -> Result<Option<f64>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let bad = || fail!("invalid argument \"{text}\" for \"--{name}\" flag: time: invalid duration \"{text}\"");
        seconds(text).map(Some).ok_or_else(bad)
    }

    pub fn required(&self, name: &str) -> Result<&str> {
        self.some(name).ok_or_else(|| fail!("required flag(s) \"{name}\" not set"))
    }

    pub fn dry_run(&self) -> Result<DryRun> {
        match self.text("dry-run") {
            None | Some("none") => Ok(DryRun::None),
            Some("client") => Ok(DryRun::Client),
            Some("server") => Ok(DryRun::Server),
            Some("unchanged") => Err(Error::Plain(
                "--dry-run flag without a value was specified. A value must be set: \"none\", \"server\", or \"client\"."
                    .into(),
            )),
            Some(other) => Err(fail!(
                "Invalid dry-run value ({other}). Must be \"none\", \"server\", or \"client\"."
            )),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DryRun {
    None,
    Client,
    Server,
}

impl DryRun {
    /// What kubectl adds to a line that says what was done.
    pub fn note(self) -> &'static str {
        match self {
            DryRun::None => "",
            DryRun::Client => " (dry run)",
            DryRun::Server => " (server dry run)",
        }
    }
}

/// Go's notation of a duration, or a bare number of seconds.
pub fn seconds(text: &str) -> Option<f64> {
    if let Ok(whole) = text.parse::<i64>() {
        return Some(whole as f64);
    }
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text),
    };
    if rest.is_empty() {
        return None;
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let amount: f64 = rest[..end].parse().ok()?;
        let units = [("ns", 1e-9), ("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
        let (unit, factor) = units.into_iter().find(|(unit, _)| rest[end..].starts_with(unit))?;
        total += amount * factor;
        rest = &rest[end + unit.len()..];
    }
    Some(sign * total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, expected) in [
            ("90", Some(90.0)),
            ("1m30s", Some(90.0)),
            ("250ms", Some(0.25)),
            ("1.5h", Some(5400.0)),
            ("-1s", Some(-1.0)),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }

    #[test]
    fn a_flag_that_is_not_acted_on_is_refused() {
        let command =
            || command("x", "", "", vec![switch("prune", "Not supported: delete by label"), switch("all", "")]);
        for (line, expected) in [
            (&["x", "--prune"][..], Some("--prune is not supported by knarr: delete by label")),
            (&["x", "--prune=false", "--all"], None),
            (&["x"], None),
        ] {
            let given = command().try_get_matches_from(line).unwrap_or_else(|error| panic!("{error}"));
            let refused = check(&command(), &given).err().and_then(|error| error.report("x"));
            assert_eq!(refused.is_some(), expected.is_some(), "{line:?}");
            assert!(refused.unwrap_or_default().contains(expected.unwrap_or_default()));
        }
    }

    #[test]
    fn values_may_begin_with_a_hyphen_and_switches_may_be_off() {
        let command = command("x", "", "", vec![text("tail", ""), switch("all", "").short('a'), dry_run()]);
        let line = ["x", "one", "--tail", "-1", "--all=false", "two", "--dry-run=client", "--", "-c", "--all"];
        let flags = Flags(command.try_get_matches_from(line).unwrap_or_else(|error| panic!("{error}")));
        assert_eq!((flags.text("tail"), flags.switch("all")), (Some("-1"), Some(false)));
        assert_eq!((flags.args(), flags.rest()), (vec!["one", "two"], vec!["-c", "--all"]));
        assert_eq!(flags.dry_run().ok(), Some(DryRun::Client));
    }
}
