//! From SQL text to one statement that may be run.
//!
//! Guarantees that what passes is one statement, reads only, and asks for the present. DataFusion's planner does not
//! look at a table's version (`VERSION AS OF 2` would be answered from now) and its parser reads some spellings as
//! something else, so time travel is refused on the tokens, before anything is parsed.
//! Knows no tables: whether names resolve is the planner's to say.

mod json_operators;

use crate::error::{QueryError, Refusal};
use datafusion::error::DataFusionError;
use datafusion::sql::parser::{DFParserBuilder, ExplainStatement, Statement};
use datafusion::sql::sqlparser::ast::{
    Expr, Query, Statement as Sql, TableFactor, Value, Visit, VisitMut, Visitor, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use std::ops::ControlFlow;

/// Statements longer than this are refused by the parser's recursion and memory, so we refuse them first.
pub const STATEMENT_BYTES_MAX: usize = 1024 * 1024;

/// Parses `sql` and refuses what may not be run.
///
/// `?` parameters become `$1`, `$2`, … in the order they stand.
///
/// # Errors
/// [`QueryError::Invalid`] if it does not parse, [`QueryError::Refused`] if it may not be run.
pub(crate) fn parse(sql: &str) -> Result<Statement, QueryError> {
    let refused = |reason| Err(QueryError::Refused { reason });
    if sql.len() > STATEMENT_BYTES_MAX {
        return Err(QueryError::planning(DataFusionError::Plan(format!(
            "the statement has {} bytes, at most {STATEMENT_BYTES_MAX} are read",
            sql.len()
        ))));
    }
    if asks_for_the_past(sql) {
        return refused(Refusal::TimeTravel);
    }
    let mut tokens = Tokenizer::new(&GenericDialect {}, sql)
        .tokenize_with_location()
        .map_err(|error| QueryError::planning(ParserError::from(error).into()))?;
    json_operators::mark_questions(&mut tokens);
    let mut statements = DFParserBuilder::new(tokens)
        .with_dialect(&GenericDialect {})
        .build()
        .and_then(|mut parser| parser.parse_statements())
        .map_err(QueryError::planning)?;
    if statements.len() > 1 {
        return refused(Refusal::SeveralStatements);
    }
    let Some(mut statement) = statements.pop_front() else {
        return refused(Refusal::Nothing);
    };
    if let Some(reason) = refusal(&statement) {
        return refused(reason);
    }
    on_sql(&mut statement, &mut json_operators::Precedence);
    on_sql(&mut statement, &mut Numbering { next: 1 });
    Ok(statement)
}

/// Whether the tokens hold `AS OF`, in any of its spellings (`FOR SYSTEM_TIME AS OF`, `TIMESTAMP AS OF`, …).
fn asks_for_the_past(sql: &str) -> bool {
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, sql).tokenize() else {
        return false; // The parser says what is wrong with it.
    };
    let words: Vec<Option<Keyword>> = tokens
        .iter()
        .filter(|token| !matches!(token, Token::Whitespace(_)))
        .map(|token| match token {
            Token::Word(word) if word.quote_style.is_none() => Some(word.keyword),
            _ => None,
        })
        .collect();
    words
        .windows(2)
        .any(|pair| pair == [Some(Keyword::AS), Some(Keyword::OF)])
}

fn refusal(statement: &Statement) -> Option<Refusal> {
    match statement {
        Statement::Statement(sql) => refusal_of_sql(sql),
        Statement::Explain(ExplainStatement { statement, .. }) => refusal(statement),
        Statement::CreateExternalTable(_) | Statement::CopyTo(_) => Some(Refusal::NotReadOnly),
        Statement::Reset(_) => Some(Refusal::SessionState),
    }
}

fn refusal_of_sql(sql: &Sql) -> Option<Refusal> {
    match sql {
        Sql::Query(_)
        | Sql::ExplainTable { .. }
        | Sql::ShowTables { .. }
        | Sql::ShowColumns { .. }
        | Sql::ShowVariable { .. }
        | Sql::ShowFunctions { .. } => {}
        Sql::Explain { statement, .. } => return refusal_of_sql(statement),
        Sql::Set(_)
        | Sql::Prepare { .. }
        | Sql::Execute { .. }
        | Sql::Deallocate { .. }
        | Sql::StartTransaction { .. }
        | Sql::Commit { .. }
        | Sql::Rollback { .. }
        | Sql::Use(_) => return Some(Refusal::SessionState),
        _ => return Some(Refusal::NotReadOnly),
    }
    match sql.visit(&mut Gate) {
        ControlFlow::Break(reason) => Some(reason),
        ControlFlow::Continue(()) => None,
    }
}

/// Looks for what hides inside a query: a version of a table, a write in a `WITH`, `SELECT … INTO`.
struct Gate;

impl Visitor for Gate {
    type Break = Refusal;

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Refusal> {
        let TableFactor::Table { version, alias, .. } = factor else {
            return ControlFlow::Continue(());
        };
        if version.is_some() {
            return ControlFlow::Break(Refusal::TimeTravel);
        }
        // The generic dialect reads `post AT(x)` as an alias with columns.
        let looks_like_a_version = alias.as_ref().is_some_and(|alias| {
            !alias.columns.is_empty()
                && alias.name.quote_style.is_none()
                && ["at", "before", "changes", "version"]
                    .contains(&alias.name.value.to_lowercase().as_str())
        });
        if looks_like_a_version {
            ControlFlow::Break(Refusal::TimeTravel)
        } else {
            ControlFlow::Continue(())
        }
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Refusal> {
        use datafusion::sql::sqlparser::ast::SetExpr;
        match query.body.as_ref() {
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
                ControlFlow::Break(Refusal::NotReadOnly)
            }
            SetExpr::Select(select) if select.into.is_some() => {
                ControlFlow::Break(Refusal::NotReadOnly)
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_statement(&mut self, statement: &Sql) -> ControlFlow<Refusal> {
        match statement {
            Sql::Insert(_) | Sql::Update { .. } | Sql::Delete(_) => {
                ControlFlow::Break(Refusal::NotReadOnly)
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

/// Lets `visitor` change the SQL inside a statement.
fn on_sql<V: VisitorMut>(statement: &mut Statement, visitor: &mut V) {
    match statement {
        Statement::Statement(sql) => {
            let _: ControlFlow<V::Break> = sql.visit(visitor);
        }
        Statement::Explain(explain) => on_sql(&mut explain.statement, visitor),
        Statement::CreateExternalTable(_) | Statement::CopyTo(_) | Statement::Reset(_) => {}
    }
}

/// Gives each `?` its number: DataFusion would take all of them for one parameter of that name.
struct Numbering {
    next: usize,
}

impl VisitorMut for Numbering {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Value(value) = expr
            && let Value::Placeholder(name) = &mut value.value
            && name == "?"
        {
            *name = format!("${}", self.next);
            self.next += 1;
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(sql: &str) -> Option<Refusal> {
        match parse(sql) {
            Err(QueryError::Refused { reason }) => Some(reason),
            _ => None,
        }
    }

    #[test]
    fn no_spelling_of_time_travel_passes() {
        for sql in [
            "SELECT * FROM post FOR SYSTEM_TIME AS OF '2026-01-01'",
            "SELECT * FROM post VERSION AS OF 2",
            "SELECT * FROM post TIMESTAMP AS OF '2026-01-01'",
            "SELECT * FROM post as of 2",
            "SELECT * FROM (SELECT * FROM post FOR VERSION AS OF 2) p",
            "EXPLAIN SELECT * FROM post VERSION AS OF 2",
            "SELECT * FROM post AT(version)",
            "SELECT 1 WHERE EXISTS (SELECT 1 FROM post BEFORE (statement))",
        ] {
            assert_eq!(reason(sql), Some(Refusal::TimeTravel), "{sql}");
        }
    }

    #[test]
    fn snowflakes_function_form_never_plans() {
        assert!(parse("SELECT * FROM post AT(TIMESTAMP => '2026-01-01')").is_err());
        assert!(
            parse(
                "SELECT * FROM post CHANGES(INFORMATION => DEFAULT) AT(TIMESTAMP => '2026-01-01')"
            )
            .is_err()
        );
    }

    #[test]
    fn words_that_only_look_like_time_travel_pass() {
        for sql in [
            "SELECT 'as of' AS text",
            "SELECT 1 AS \"of\"",
            "SELECT 1 -- as of\n AS x",
            "SELECT at.did FROM post at",
        ] {
            assert!(parse(sql).is_ok(), "{sql}");
        }
    }

    #[test]
    fn what_writes_or_reaches_files_is_refused() {
        for sql in [
            "COPY (SELECT 1) TO '/tmp/x.csv'",
            "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
            "CREATE TABLE t AS SELECT 1",
            "CREATE VIEW v AS SELECT 1",
            "DROP TABLE post",
            "INSERT INTO post VALUES (1)",
            "UPDATE post SET text = ''",
            "DELETE FROM post",
            "SELECT * INTO t FROM post",
            "EXPLAIN ANALYZE INSERT INTO post VALUES (1)",
            "EXPLAIN COPY (SELECT 1) TO '/tmp/x.csv'",
        ] {
            assert_eq!(reason(sql), Some(Refusal::NotReadOnly), "{sql}");
        }
    }

    #[test]
    fn session_statements_and_lists_are_refused() {
        assert_eq!(
            reason("SET datafusion.execution.batch_size = 1"),
            Some(Refusal::SessionState)
        );
        assert_eq!(reason("PREPARE p AS SELECT 1"), Some(Refusal::SessionState));
        assert_eq!(reason("BEGIN"), Some(Refusal::SessionState));
        assert_eq!(
            reason("SELECT 1; SELECT 2"),
            Some(Refusal::SeveralStatements)
        );
        assert_eq!(reason("  "), Some(Refusal::Nothing));
    }

    #[test]
    fn reading_passes() {
        for sql in [
            "SELECT 1;",
            "SHOW TABLES",
            "DESCRIBE bsky.post",
            "SHOW COLUMNS FROM bsky.post",
            "EXPLAIN SELECT 1",
            "EXPLAIN ANALYZE SELECT 1",
            "WITH a AS (SELECT 1) SELECT * FROM a UNION ALL VALUES (2)",
        ] {
            assert!(parse(sql).is_ok(), "{sql}");
        }
    }

    #[test]
    fn question_marks_are_numbered_in_order() {
        let statement = parse("SELECT ? FROM post WHERE did = ? LIMIT ?").expect("parses");
        assert_eq!(
            statement.to_string(),
            "SELECT $1 FROM post WHERE did = $2 LIMIT $3"
        );
    }
}
