//! What can go wrong with a query, named for what its sender does next.
//!
//! A [`QueryError`] travels inside a stream as `DataFusionError::External`; [`QueryError::from_stream`] gets it out
//! again, so that a server maps both kinds of failure to its codes in one place.

use crate::view::{ChainError, TablesError};
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;
use std::time::Duration;

/// Why a statement is not run, though it may be well-formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It would write, define, or reach a file: `INSERT`, `COPY`, `CREATE EXTERNAL TABLE`, ….
    NotReadOnly,
    /// It asks for the past, which would otherwise be answered from now.
    TimeTravel,
    /// There is more than one statement.
    SeveralStatements,
    /// There is no statement.
    Nothing,
    /// It changes the session (`SET`, `PREPARE`, `BEGIN`, …); a query has none.
    SessionState,
}

impl Refusal {
    /// What the sender can do instead.
    pub fn advice(self) -> &'static str {
        match self {
            Self::NotReadOnly => {
                "SQL here is read-only: use SELECT, SHOW TABLES, DESCRIBE or EXPLAIN, and append through the ingest commands"
            }
            Self::TimeTravel => {
                "reading a past version (AS OF) is not supported: leave the clause out to read the present (write \"of\" in quotes if it is a name)"
            }
            Self::SeveralStatements => "send one statement at a time",
            Self::Nothing => "send a statement, for example: SELECT count(*) FROM bsky.post",
            Self::SessionState => {
                "a query has no session to change: set options on the server, and prepare through Flight SQL"
            }
        }
    }
}

/// Why there is no answer, or no further rows.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The text does not parse or plan; nothing was run.
    #[error("{}", first_line(source))]
    Invalid {
        /// What the planner found.
        source: Box<DataFusionError>,
    },
    /// The statement is not one that may be run; nothing was run.
    #[error("refused: {}", reason.advice())]
    Refused {
        /// Which rule refused it.
        reason: Refusal,
    },
    /// A table that is named does not exist; nothing was run.
    #[error("there is no table {table}{}", did_you_mean(suggestions))]
    UnknownTable {
        /// The name as it was written.
        table: Box<str>,
        /// Names that are close to it, best first.
        suggestions: Vec<String>,
    },
    /// The number of parameters is not what the statement has.
    #[error("the statement has {expected} parameters, {given} were given")]
    Parameters {
        /// How many the statement has.
        expected: usize,
        /// How many were sent.
        given: usize,
    },
    /// A named parameter has no value, or a value has no parameter; nothing was run.
    #[error("{problem}{}", named(names))]
    Named {
        /// What is wrong.
        problem: String,
        /// The names that the statement has.
        names: Vec<String>,
    },
    /// The bucket could not be read; ask again.
    #[error("could not open a view of the bucket")]
    Open {
        /// What the tables said.
        source: Box<TablesError>,
    },
    /// An object that the view names was collected after rows had been sent; ask again.
    #[error("view expired: the data was reorganised while the query ran; run it again")]
    ViewExpired {
        /// The object that is gone.
        source: Box<DataFusionError>,
    },
    /// The query ran longer than the collector waits for; ask for less.
    #[error("the query ran longer than {} s, the longest that is permitted", limit.as_secs())]
    TooLong {
        /// The limit.
        limit: Duration,
    },
    /// The query needs more memory than this node gives to queries; ask for less.
    #[error(
        "the query needs more memory than this node gives to queries: {}",
        first_line(source)
    )]
    TooLarge {
        /// Who asked for how much.
        source: Box<DataFusionError>,
    },
    /// The query failed while it ran.
    #[error("{}", first_line(source))]
    Failed {
        /// What failed.
        source: Box<DataFusionError>,
    },
}

/// What a sender can do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Change the statement.
    Invalid,
    /// Name another table.
    NotFound,
    /// Send it again as it is.
    Unavailable,
    /// Send something smaller.
    Exhausted,
    /// Report it.
    Internal,
}

impl QueryError {
    /// What the sender can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid { .. }
            | Self::Refused { .. }
            | Self::Parameters { .. }
            | Self::Named { .. } => ErrorKind::Invalid,
            Self::UnknownTable { .. } => ErrorKind::NotFound,
            Self::Open { .. } | Self::ViewExpired { .. } => ErrorKind::Unavailable,
            Self::TooLong { .. } | Self::TooLarge { .. } => ErrorKind::Exhausted,
            Self::Failed { source } => match source.find_root() {
                _ if is_of_the_store(source) => ErrorKind::Unavailable,
                DataFusionError::ArrowError(..)
                | DataFusionError::Execution(_)
                | DataFusionError::Plan(_)
                | DataFusionError::SchemaError(..)
                | DataFusionError::NotImplemented(_) => ErrorKind::Invalid,
                _ => ErrorKind::Internal,
            },
        }
    }

    /// Takes out of a stream's error what was put in, or judges it.
    pub fn from_stream(error: DataFusionError) -> Self {
        match error {
            DataFusionError::External(inner) => match inner.downcast::<QueryError>() {
                Ok(query) => *query,
                Err(inner) => Self::running(DataFusionError::External(inner)),
            },
            other => Self::running(other),
        }
    }

    /// An error of a plan that has begun to run.
    pub(crate) fn running(error: DataFusionError) -> Self {
        match error.find_root() {
            DataFusionError::ResourcesExhausted(_) => Self::TooLarge {
                source: Box::new(error),
            },
            _ => Self::Failed {
                source: Box::new(error),
            },
        }
    }

    /// An error of parsing or planning.
    pub(crate) fn planning(error: DataFusionError) -> Self {
        if is_of_the_store(&error) {
            return Self::running(error);
        }
        Self::Invalid {
            source: Box::new(error),
        }
    }

    /// Puts the error into a stream.
    pub(crate) fn into_stream(self) -> DataFusionError {
        DataFusionError::External(Box::new(self))
    }
}

/// Planning scans tables, so a failing store can show there: it is no mistake in the statement.
fn is_of_the_store(error: &DataFusionError) -> bool {
    if is_gone(error) {
        return true;
    }
    match error.find_root() {
        DataFusionError::ObjectStore(_) => true,
        DataFusionError::External(inner) => inner.is::<TablesError>() || inner.is::<ChainError>(),
        _ => false,
    }
}

/// Whether an object that a view names is gone: the collector was faster than the query.
pub(crate) fn is_gone(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(current) = next {
        if let Some(object_store::Error::NotFound { .. }) =
            current.downcast_ref::<object_store::Error>()
        {
            return true;
        }
        if current
            .downcast_ref::<TablesError>()
            .is_some_and(TablesError::is_expired)
        {
            return true;
        }
        if let Some(DataFusionError::ObjectStore(store)) = current.downcast_ref::<DataFusionError>()
            && matches!(**store, object_store::Error::NotFound { .. })
        {
            return true;
        }
        next = current.source();
    }
    false
}

/// The planner's sentence without the backtrace and the "help" lines of its diagnostics.
fn first_line(error: &DataFusionError) -> String {
    let text = match error.find_root() {
        DataFusionError::SQL(parser, _) => match parser.as_ref() {
            ParserError::TokenizerError(problem) | ParserError::ParserError(problem) => {
                format!("the statement does not parse: {problem}")
            }
            ParserError::RecursionLimitExceeded => "the statement is nested too deep".to_owned(),
        },
        DataFusionError::Plan(problem) | DataFusionError::Execution(problem) => problem.clone(),
        DataFusionError::SchemaError(problem, _) => problem.to_string(),
        other => other.to_string(),
    };
    text.lines().next().unwrap_or_default().to_owned()
}

fn named(names: &[String]) -> String {
    if names.is_empty() {
        return "; it has none".to_owned();
    }
    format!("; it has ${}", names.join(", $"))
}

fn did_you_mean(suggestions: &[String]) -> String {
    if suggestions.is_empty() {
        return "; SHOW TABLES lists all of them".to_owned();
    }
    format!("; did you mean {}?", suggestions.join(", "))
}
