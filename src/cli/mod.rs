//! WHAT THE USER TYPED. Flags and environment become the Options of each layer; one file per command.

pub mod args;
mod background;
mod cache;
mod check;
mod configure;
pub mod exit;
mod found;
mod generate;
mod grep;
mod grep_query;
mod log;
mod mount;
mod mount8;
mod mount_options;
mod search;
mod status;
mod target;
mod umount;
pub mod url;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::FromArgMatches;
use clap::error::ErrorKind;
use secrecy::SecretString;

use args::{Cli, Command};
use exit::Failure;

/// The program: runs the command line of this process and gives its exit code.
pub fn main() -> ExitCode {
    background::forbid_core_dumps();
    let password = background::take_secret("IMAPFS_PASSWORD");
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let (outcome, code): (_, fn(&Failure) -> u8) = match mount8::translate(&arguments) {
        Ok(None) => (run(arguments, password), |failure| failure.exit as u8),
        Ok(Some(call)) => (mount8::run(call, password), |failure| failure.exit.of_mount()),
        Err(failure) => (Err(failure), |failure| failure.exit.of_mount()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nobody to tell: the exit code says it.
            if !failure.message.is_empty() {
                let _ = writeln!(io::stderr(), "imapfs: {}", failure.message.trim_end());
            }
            ExitCode::from(code(&failure))
        }
    }
}

/// Runs a command line, program name first.
fn run(arguments: Vec<OsString>, password: Option<SecretString>) -> Result<(), Failure> {
    let Some(cli) = parse(&arguments)? else { return Ok(()) };
    match cli.command {
        Command::Mount(_) => mount::run(arguments, false, password),
        Command::Umount(umount) => umount::run(&umount),
        Command::Status(status) => status::run(&status),
        Command::Check(check) => check::run(&check, &cli.global, password),
        Command::Grep(grep) => grep::run(&grep),
        Command::Search(search) => search::run(&search),
        Command::Cache(cache) => cache::run(&cache.command, &cli.global),
        Command::Configure(configure) => configure::run(&configure, &cli.global),
        Command::Completions { shell } => generate::completions(shell),
        Command::Man => generate::man(),
    }
}

/// Parses a command line; `None` when it asked for help or the version, which then has been printed.
///
/// # Errors
/// Usage, with what clap says of it.
fn parse(arguments: &[OsString]) -> Result<Option<Cli>, Failure> {
    let parsed = args::command().try_get_matches_from(arguments).and_then(|found| Cli::from_arg_matches(&found));
    parsed.map(Some).or_else(|error| {
        let text = error.render().to_string();
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                print(&format!("{}\n", text.trim_end())).map(|()| None)
            }
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => Err(Failure::usage(format!("do what?\n\n{text}"))),
            _ => Err(Failure::usage(text.strip_prefix("error: ").unwrap_or(&text))),
        }
    })
}

/// Prints on standard output; a reader that has seen enough (`| head`) is no failure.
///
/// # Errors
/// System.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::system("cannot print", &error)),
        _ => Ok(()),
    }
}
