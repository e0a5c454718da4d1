//! The binary: command line, wiring, supervision. It connects the parts and does nothing of theirs.

mod agent;
mod cli;
mod commands;
mod datadir;
mod demo_app;
mod host_ports;
mod kubeconfig;
mod log;
mod ranges;
mod record;
mod say;
mod server;
mod start;
mod up;
mod version;

use std::{io::Write, process::ExitCode};

use anyhow::Result;
use clap::FromArgMatches;

use cli::{Cli, Command};

fn main() -> ExitCode {
    // These are this program again; they must not start threads, so they are asked for before anything else.
    let args: Vec<String> = std::env::args().skip(1).collect();
    let alone = match args.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        Some(("shim", rest)) => Some(knarr_runtime::shim::main(rest)),
        Some((knarr_local::supervisor::COMMAND, rest)) => Some(knarr_local::supervisor::main(rest)),
        _ => None,
    };
    if let Some(code) = alone {
        return ExitCode::from(u8::try_from(code).unwrap_or(1));
    }
    let words = knarr_cli::reorder(std::env::args().collect());
    let matches = match cli::full().try_get_matches_from(&words) {
        Ok(matches) => matches,
        Err(error) => match knarr_cli::explain_usage(&error, &cli::full(), &words) {
            Some(text) => {
                let _ = writeln!(std::io::stderr(), "{text}");
                return ExitCode::FAILURE;
            }
            None => error.exit(),
        },
    };
    if let Some((name, _)) = matches.subcommand()
        && knarr_cli::commands().iter().any(|command| command.get_name() == name)
    {
        return match wait_for(async { Ok(knarr_cli::run(cli::full(), &matches).await) }) {
            Ok(code) => ExitCode::from(code),
            Err(_) => ExitCode::FAILURE,
        };
    }
    let Cli { command } = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match run(command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {}", explain(&error));
            ExitCode::FAILURE
        }
    }
}

/// Runs a command; `Ok(false)` is a clean answer that is nevertheless a "no".
fn run(command: Command) -> Result<bool> {
    match command {
        Command::Up(args) => up::run(args).map(|()| true),
        Command::Server(args) => up::run_server(args).map(|()| true),
        Command::Agent(args) => agent::run(args).map(|()| true),
        Command::Token(command) => wait_for(commands::token::run(command)).map(|()| true),
        Command::Down(args) => wait_for(commands::down::run(args)).map(|()| true),
        Command::Status(args) => wait_for(commands::status::run(args)),
        Command::Reset(args) => wait_for(commands::reset::run(args)),
        Command::Backup(args) => wait_for(commands::backup::run(args)).map(|()| true),
        Command::Restore(args) => wait_for(commands::restore::run(args)).map(|()| true),
        Command::Cluster(command) => wait_for(commands::cluster::run(command)).map(|()| true),
        Command::Image(command) => wait_for(commands::image::run(command)).map(|()| true),
        Command::Check(args) => commands::check::run(args),
        Command::Version => {
            version::print();
            Ok(true)
        }
        Command::DemoApp(args) => demo_app::run(args).map(|()| true),
    }
}

/// Small commands need one thread.
fn wait_for<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    log::to_stderr();
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}

/// An error with its causes, each once: some carry their cause in their own words already.
fn explain(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}
