//! The composition root: reads flags, environment and signals, and puts the other crates together.
//!
//! Guarantees: results go to standard output and all else to standard error; a failure is one line and a non-zero
//! exit. It holds no logic of the database: what a role does is in the crate that knows it.

mod config;
mod database;
mod demo;
mod ingestion;
mod lexicon;
mod live;
mod roles;
mod shutdown;
mod sources;
mod sql;
mod status;
mod token;
mod up;

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser as _;
use clap::error::ErrorKind;
use tracing_subscriber::EnvFilter;

use config::{Command, Config, ImportCommand, LexiconCommand, LogFormat};

/// What a shell takes for wrong usage.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let config = match Config::try_parse() {
        Ok(config) => config,
        Err(error) => return explain(&error),
    };
    match start(config) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has enough, as in `alluvium sql … | head`.
        Err(error) if sql::output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("alluvium: {}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}

fn start(config: Config) -> Result<()> {
    log_to_stderr(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = runtime.context("the runtime can't be started")?;
    runtime.block_on(run(config.command))
}

async fn run(command: Command) -> Result<()> {
    match command {
        Command::Up(args) => up::run(args, shutdown::on_signal()?).await,
        Command::Serve(args) => roles::serve(args, shutdown::on_signal()?).await,
        Command::Compact(args) => roles::compact(args, shutdown::on_signal()?).await,
        Command::Collect(args) => roles::collect(args, shutdown::on_signal()?).await,
        Command::Ingest(args) => sources::ingest(args, shutdown::on_signal()?).await,
        Command::Replay(args) => ingestion::replay(args, shutdown::on_signal()?).await,
        Command::Import(ImportCommand::Car(args)) => {
            ingestion::import_car(args, shutdown::on_signal()?).await
        }
        Command::Lexicon(LexiconCommand::Add(args)) => lexicon::add_files(args).await,
        Command::Lexicon(LexiconCommand::List(args)) => lexicon::list(args).await,
        Command::Sql(args) => sql::run(args).await,
        Command::Status(args) => status::run(args).await,
    }
}

fn log_to_stderr(config: &Config) -> Result<()> {
    let filter = config
        .log
        .as_deref()
        .unwrap_or_else(|| config.command.default_log());
    let filter = EnvFilter::try_new(filter).context("the log filter can't be read")?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(live::AboveLine);
    match config.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

/// Help and version go to standard output; wrong usage is one line.
fn explain(error: &clap::Error) -> ExitCode {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        print!("{error}");
        return ExitCode::SUCCESS;
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        eprint!("{error}");
        return ExitCode::from(EXIT_USAGE);
    }
    let text = error.to_string();
    let reason = text
        .split("\n\n")
        .next()
        .unwrap_or_default()
        .trim_start_matches("error: ");
    eprintln!("alluvium: {}; --help shows how", joined(reason));
    ExitCode::from(EXIT_USAGE)
}

/// An error and its causes in one line, leaving out a cause that the text before it already says.
fn one_line(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let said = joined(&cause.to_string());
        if said.is_empty() || text.contains(&said) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&said);
    }
    text
}

fn joined(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_that_says_each_cause_once() {
        let error = anyhow::anyhow!("the disk is\n  full")
            .context("part 3 can't be written: the disk is full");
        assert_eq!(
            one_line(&error.context("flush failed")),
            "flush failed: part 3 can't be written: the disk is full"
        );
    }
}
