//! What is wrong with a line that cannot be parsed, in kubectl's words.

use clap::{
    Command, Error,
    error::{ContextKind, ContextValue, ErrorKind},
};

/// The text for standard error, and whether the line was one of this crate's commands or of nobody's; `None` for other
/// commands' lines, and where help was asked for.
pub fn explain(error: &Error, program: &Command, words: &[String]) -> Option<String> {
    if !error.use_stderr() {
        return None;
    }
    let name = program.get_name();
    let mut typed = words.iter().skip(1).map(String::as_str).take_while(|word| !word.starts_with('-'));
    let first = typed.next();
    let Some(command) = first.and_then(|first| program.find_subcommand(first)) else {
        return first.map(|first| unknown_command(name, first, error));
    };
    if !crate::commands().iter().any(|known| known.get_name() == command.get_name()) {
        return None;
    }
    let (mut path, mut innermost) = (format!("{name} {}", command.get_name()), command);
    for word in typed {
        let Some(next) = innermost.find_subcommand(word) else { break };
        path = format!("{path} {}", next.get_name());
        innermost = next;
    }
    if let (ErrorKind::InvalidSubcommand, Some(word)) = (error.kind(), context(error, ContextKind::InvalidSubcommand)) {
        return Some(format!("error: unknown command {word:?}\nSee '{path} -h' for help and examples"));
    }
    Some(format!("error: {}\nSee '{path} --help' for usage.", what_is_wrong(error, words)))
}

fn unknown_command(program: &str, word: &str, error: &Error) -> String {
    let text = format!("error: unknown command {word:?} for {program:?}");
    let near = match error.get(ContextKind::SuggestedSubcommand) {
        Some(ContextValue::Strings(near)) if !near.is_empty() => {
            near.iter().map(|near| format!("\n\t{near}")).collect()
        }
        _ => String::new(),
    };
    if near.is_empty() { text } else { format!("{text}\n\nDid you mean this?{near}") }
}

fn what_is_wrong(error: &Error, words: &[String]) -> String {
    // With the placeholder of its value: "--output <output>".
    let flag = context(error, ContextKind::InvalidArg).unwrap_or_default();
    let flag = flag.split(' ').next().unwrap_or_default();
    let value = context(error, ContextKind::InvalidValue).unwrap_or_default();
    match error.kind() {
        ErrorKind::UnknownArgument if flag.starts_with("--") => format!("unknown flag: {flag}"),
        ErrorKind::UnknownArgument if flag.starts_with('-') => {
            let letter = flag.trim_start_matches('-').chars().next().unwrap_or('-');
            let typed = words.iter().find(|word| word.starts_with('-') && word.contains(letter) && !is_long(word));
            format!("unknown shorthand flag: '{letter}' in {}", typed.map_or(flag, String::as_str))
        }
        ErrorKind::InvalidValue if value.is_empty() => match words.last() {
            Some(last) if last.starts_with('-') && !is_long(last) => {
                format!("flag needs an argument: '{}' in {last}", last.chars().next_back().unwrap_or('-'))
            }
            _ => format!("flag needs an argument: {flag}"),
        },
        ErrorKind::InvalidValue => format!("invalid argument {value:?} for {flag:?} flag"),
        _ => {
            let text = error.to_string();
            text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
        }
    }
}

fn is_long(word: &str) -> bool {
    word.starts_with("--")
}

fn context(error: &Error, kind: ContextKind) -> Option<&str> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_line_is_explained_as_kubectl_does() {
        let check = |line: &str, expected: Option<&str>| {
            let program = || Command::new("knarr").subcommands(crate::commands()).subcommand(Command::new("up"));
            let words: Vec<String> = format!("knarr {line}").split(' ').map(str::to_owned).collect();
            let error = program().try_get_matches_from(&words).unwrap_err();
            assert_eq!(explain(&error, &program(), &words).as_deref(), expected, "{line}");
        };
        let usage = |text: &str, command: &str| format!("error: {text}\nSee 'knarr {command} --help' for usage.");
        check("get --foo", Some(&usage("unknown flag: --foo", "get")));
        check("get pods --foo=bar", Some(&usage("unknown flag: --foo", "get")));
        check("get pods -Z", Some(&usage("unknown shorthand flag: 'Z' in -Z", "get")));
        check("get pods -o", Some(&usage("flag needs an argument: 'o' in -o", "get")));
        check("get pods --output", Some(&usage("flag needs an argument: --output", "get")));
        // What would be acted on by nobody is no flag.
        check("cordon n -o json", Some(&usage("unknown shorthand flag: 'o' in -o", "cordon")));
        check("replace -f x -l a=b", Some(&usage("unknown shorthand flag: 'l' in -l", "replace")));
        check("rollout status --foo", Some(&usage("unknown flag: --foo", "rollout status")));
        check("rollout stat", Some("error: unknown command \"stat\"\nSee 'knarr rollout -h' for help and examples"));
        check("gett", Some("error: unknown command \"gett\" for \"knarr\"\n\nDid you mean this?\n\tset\n\tget"));
        check("xyzzy", Some("error: unknown command \"xyzzy\" for \"knarr\""));
        check("up --foo", None);
        check("get --help", None);
    }
}
