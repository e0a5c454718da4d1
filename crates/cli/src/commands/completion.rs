//! `completion`: a script for the shell, made from the commands themselves.

use clap::{Arg, Command, value_parser};
use clap_complete::Shell;

use crate::{cx::write_out, error::Result, fail};

pub fn command() -> Command {
    let shell = Arg::new("shell").required(true).value_parser(value_parser!(Shell)).help("The shell");
    Command::new("completion").about("Output shell completion code: source <(knarr completion bash)").arg(shell)
}

/// Prints the script for a whole program.
pub fn print(program: &mut Command, shell: &clap::ArgMatches) -> Result<()> {
    let shell = shell.get_one::<Shell>("shell").ok_or_else(|| fail!("name a shell"))?;
    let name = program.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(*shell, program, name, &mut script);
    write_out(&String::from_utf8_lossy(&script))
}
