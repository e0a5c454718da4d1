//! The command line for people without kubectl: the same commands, the same flags and the same output, through the
//! same public API. What a command does is in `commands/`; everything they share is beside it.
//!
//! Objects are JSON throughout, and what the server offers is asked for, not known: only `describe`, `create`, `set`
//! and `rollout` know kinds.

mod api;
mod commands;
mod cx;
mod discovery;
mod error;
mod files;
mod flags;
#[cfg(fuzzing)]
pub mod fuzzing;
mod kubeconfig;
mod merge;
mod output;
mod resources;
mod stream;
mod tabs;
mod usage;
mod yaml;

use clap::{ArgMatches, Command};

use cx::Cx;
use flags::Flags;
pub use usage::explain as explain_usage;

/// Commands to be added to a program's own.
pub fn commands() -> Vec<Command> {
    commands::all()
}

/// kubectl's global flags may stand before the command: they go behind it, where the parser looks for them.
pub fn reorder(args: Vec<String>) -> Vec<String> {
    let names = flags::connection_names();
    let mut at = 1;
    while let Some(word) = args.get(at) {
        let name = word.trim_start_matches('-');
        let (bare, has_value) = name.split_once('=').map_or((name, false), |(bare, _)| (bare, true));
        let long = names.iter().find(|(long, _)| word.starts_with("--") && long == bare);
        let value_apart = match long {
            Some((_, takes_value)) => *takes_value && !has_value,
            None if matches!(word.as_str(), "-n" | "-s") => true,
            None if word.starts_with("-n") && !word.starts_with("--") => false,
            None => break,
        };
        at += 1 + usize::from(value_apart);
    }
    let (Some(command), true) = (args.get(at), at > 1) else { return args };
    if !commands().iter().any(|known| known.get_name() == command) {
        return args;
    }
    // Behind all words of a command and before its own flags: a nested command takes no flags of its parent.
    let words = args[at..].iter().take_while(|word| !word.starts_with('-')).count();
    let mut sorted = vec![args[0].clone()];
    sorted.extend_from_slice(&args[at..at + words]);
    sorted.extend_from_slice(&args[1..at]);
    sorted.extend_from_slice(&args[at + words..]);
    sorted
}

/// Runs the command of `program` that `matches` holds; the answer is the exit code.
pub async fn run(mut program: Command, matches: &ArgMatches) -> u8 {
    if let Some(("completion", shell)) = matches.subcommand() {
        return u8::from(commands::print_completion(&mut program, shell).is_err());
    }
    let (words, inner) = commands::innermost(matches);
    let command = format!("{} {}", program.get_name(), words.join(" "));
    let typed = words.iter().try_fold(&program, |outer, word| outer.find_subcommand(word));
    let refused = typed.map_or(Ok(()), |typed| flags::check(typed, &inner));
    let cx = Cx::new(command.clone(), Flags(inner));
    let ended = match refused {
        Ok(()) => commands::run(&words.join(" "), &cx).await,
        refused => refused,
    };
    match ended {
        Ok(()) => 0,
        Err(error) => {
            if let Some(text) = error.report(&command) {
                eprintln!("{text}");
            }
            error.exit_code()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_consistent() {
        Command::new("knarr").subcommands(commands()).debug_assert();
    }

    #[test]
    fn flags_before_the_command_go_behind_it() {
        for (line, expected) in [
            ("knarr -n a get pods -A", "knarr get pods -n a -A"),
            ("knarr --context=x -nb get po", "knarr get po --context=x -nb"),
            ("knarr up --node-name x", "knarr up --node-name x"),
            ("knarr get pods -n a", "knarr get pods -n a"),
        ] {
            let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
            assert_eq!(reorder(words(line)), words(expected));
        }
    }
}
