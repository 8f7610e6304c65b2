//! The interactive session: a line editor with history, timing after each answer, and a few commands.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use super::{Source, answer, is_complete};
use crate::config::Format;

const PROMPT: &str = "alluvium> ";
const CONTINUED: &str = "       -> ";

const HELP: &str = "\
A statement ends with a semicolon. Ctrl-C gives up a statement or stops its answer; Ctrl-D ends the session.
  \\d            list the tables
  \\d TABLE      list a table's columns
  \\q            end the session
  \\?            this help";

/// Reads and answers until the user ends it. A statement that fails is said and does not end the session.
pub(super) async fn run(source: &mut Source, format: Format) -> Result<()> {
    eprintln!(
        "alluvium {}: \\? for help, \\q to end",
        env!("CARGO_PKG_VERSION")
    );
    let mut editor = DefaultEditor::new()?;
    let history = history_file();
    if let Some(path) = &history {
        // There is none the first time.
        let _ = editor.load_history(path);
    }
    let mut pending = String::new();
    loop {
        let prompt = if pending.is_empty() {
            PROMPT
        } else {
            CONTINUED
        };
        let (back, read) = tokio::task::spawn_blocking(move || {
            let read = editor.readline(prompt);
            (editor, read)
        })
        .await?;
        editor = back;
        match read {
            Ok(line) => {
                pending.push_str(&line);
                pending.push('\n');
            }
            Err(ReadlineError::Interrupted) => pending.clear(),
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(error.into()),
        }
        let text = pending.trim().to_owned();
        if text == "\\q" {
            break;
        }
        let statement = match text.as_str() {
            "" => continue,
            command if command.starts_with('\\') => command_statement(command),
            _ if is_complete(&text) => Some(text.clone()),
            _ => continue,
        };
        pending.clear();
        editor.add_history_entry(&text)?;
        if let Some(statement) = statement {
            ask(source, &statement, format).await;
        }
    }
    if let Some(path) = &history {
        save(&mut editor, path);
    }
    Ok(())
}

/// Prints an answer and its time, or why there is none; Ctrl-C ends the waiting.
async fn ask(source: &mut Source, statement: &str, format: Format) {
    let began = Instant::now();
    let outcome = tokio::select! {
        outcome = answer(source, statement, format) => outcome,
        _ = tokio::signal::ctrl_c() => {
            eprintln!("stopped");
            return;
        }
    };
    match outcome {
        Ok(1) => eprintln!("1 row, {:.3} s", began.elapsed().as_secs_f64()),
        Ok(rows) => eprintln!("{rows} rows, {:.3} s", began.elapsed().as_secs_f64()),
        Err(error) => eprintln!("{}", crate::one_line(&error)),
    }
}

/// What a command asks for; `None` when it was answered here.
fn command_statement(command: &str) -> Option<String> {
    match command.split_once(char::is_whitespace) {
        None if command == "\\d" => Some(
            "SELECT table_schema, table_name, table_type FROM information_schema.tables \
             WHERE table_schema <> 'information_schema' ORDER BY 1, 2"
                .to_owned(),
        ),
        Some(("\\d", table)) => Some(format!("DESCRIBE {}", table.trim().trim_end_matches(';'))),
        _ => {
            eprintln!("{HELP}");
            None
        }
    }
}

/// Where the history is kept; nowhere for a user without a home.
fn history_file() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let state =
        state.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state")))?;
    Some(state.join("alluvium/history"))
}

fn save(editor: &mut DefaultEditor, path: &std::path::Path) {
    let folder = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    let saved = folder
        .map_err(ReadlineError::from)
        .and_then(|()| editor.save_history(path));
    if let Err(error) = saved {
        eprintln!("the history could not be kept: {error}");
    }
}
