//! The operators of JSON in SQL text, `->`, `->>` and `?`, read as Postgres reads them.
//!
//! The parser's generic dialect takes each `?` for a parameter and ranks the arrows below comparisons, so that
//! `a ->> 'x' = 'y'` would mean `a ->> ('x' = 'y')`. Guarantees that the arrows bind tighter than comparisons, `IS`,
//! `LIKE`, `IN` and `BETWEEN`, unless there are parentheses. Knows neither types nor functions.

use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, Value, VisitorMut};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use std::ops::ControlFlow;

/// Makes each `?` that stands directly before a string literal the operator; every other one stays a parameter.
pub(super) fn mark_questions(tokens: &mut [TokenWithSpan]) {
    let significant: Vec<usize> = (0..tokens.len())
        .filter(|place| !matches!(tokens[*place].token, Token::Whitespace(_)))
        .collect();
    for pair in significant.windows(2) {
        let asked = matches!(&tokens[pair[0]].token, Token::Placeholder(name) if name == "?");
        if asked && matches!(tokens[pair[1]].token, Token::SingleQuotedString(_)) {
            tokens[pair[0]].token = Token::Question;
        }
    }
}

/// Gives the arrows back the operands that a looser operator took from them.
pub(super) struct Precedence;

impl VisitorMut for Precedence {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let Expr::BinaryOp { left, op, right } = expr else {
            return ControlFlow::Continue(());
        };
        if !is_of_json(op) {
            return ControlFlow::Continue(());
        }
        if first_operand(right).is_some() {
            let whole = exchange(right, first_operand);
            *expr = placed(whole, expr, first_operand);
        } else if last_operand(left).is_some() {
            let whole = exchange(left, last_operand);
            *expr = placed(whole, expr, last_operand);
        }
        ControlFlow::Continue(())
    }
}

type OperandOf = fn(&mut Expr) -> Option<&mut Expr>;

/// Leaves in `side` only its innermost operand, and returns the rest with a gap in that place.
fn exchange(side: &mut Expr, operand: OperandOf) -> Expr {
    let mut whole = std::mem::replace(side, gap());
    at_innermost(&mut whole, operand, |slot| std::mem::swap(slot, side));
    whole
}

/// `whole` with `arrow` in its gap.
fn placed(mut whole: Expr, arrow: &mut Expr, operand: OperandOf) -> Expr {
    at_innermost(&mut whole, operand, |slot| std::mem::swap(slot, arrow));
    whole
}

fn at_innermost(expr: &mut Expr, operand: OperandOf, change: impl FnOnce(&mut Expr)) {
    match operand(expr) {
        Some(inner) => at_innermost(inner, operand, change),
        None => change(expr),
    }
}

fn gap() -> Expr {
    Expr::value(Value::Null)
}

fn is_of_json(op: &BinaryOperator) -> bool {
    use BinaryOperator::{Arrow, HashArrow, HashLongArrow, LongArrow, Question};
    matches!(op, Arrow | LongArrow | HashArrow | HashLongArrow | Question)
}

fn is_comparison(op: &BinaryOperator) -> bool {
    use BinaryOperator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq)
}

/// The first operand of an expression that binds no tighter than an arrow.
fn first_operand(expr: &mut Expr) -> Option<&mut Expr> {
    match expr {
        Expr::BinaryOp { left, op, .. }
            if is_comparison(op) || matches!(op, BinaryOperator::StringConcat) =>
        {
            Some(left)
        }
        Expr::IsNull(expr)
        | Expr::IsNotNull(expr)
        | Expr::IsTrue(expr)
        | Expr::IsNotTrue(expr)
        | Expr::IsFalse(expr)
        | Expr::IsNotFalse(expr)
        | Expr::IsDistinctFrom(expr, _)
        | Expr::IsNotDistinctFrom(expr, _)
        | Expr::InList { expr, .. }
        | Expr::InSubquery { expr, .. }
        | Expr::Between { expr, .. }
        | Expr::Like { expr, .. }
        | Expr::ILike { expr, .. }
        | Expr::SimilarTo { expr, .. } => Some(expr),
        _ => None,
    }
}

/// The last operand of an expression that binds looser than an arrow.
fn last_operand(expr: &mut Expr) -> Option<&mut Expr> {
    match expr {
        Expr::BinaryOp { op, right, .. } if is_comparison(op) => Some(right),
        Expr::IsDistinctFrom(_, expr) | Expr::IsNotDistinctFrom(_, expr) => Some(expr),
        Expr::Like { pattern, .. } | Expr::ILike { pattern, .. } => Some(pattern),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{on_sql, parse};
    use super::*;

    /// A condition as it was read, each arrow with its operands in parentheses.
    fn read(condition: &str) -> String {
        struct Parentheses;
        impl VisitorMut for Parentheses {
            type Break = ();
            fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
                if matches!(expr, Expr::BinaryOp { op, .. } if is_of_json(op)) {
                    let arrow = std::mem::replace(expr, gap());
                    *expr = Expr::Nested(Box::new(arrow));
                }
                ControlFlow::Continue(())
            }
        }
        let mut statement = parse(&format!("SELECT 1 WHERE {condition}")).expect("parses");
        on_sql(&mut statement, &mut Parentheses);
        statement.to_string().replace("SELECT 1 WHERE ", "")
    }

    #[test]
    fn arrows_bind_tighter_than_what_compares() {
        for (written, meant) in [
            ("a ->> 'x' = 'y'", "(a ->> 'x') = 'y'"),
            ("'y' = a -> 'x' ->> 'z'", "'y' = ((a -> 'x') ->> 'z')"),
            ("a -> 'x' = b -> 'y'", "(a -> 'x') = (b -> 'y')"),
            ("a ->> 'x' IS NOT NULL", "(a ->> 'x') IS NOT NULL"),
            ("a ->> 'x' NOT LIKE 'y%'", "(a ->> 'x') NOT LIKE 'y%'"),
            ("c LIKE a ->> 'x'", "c LIKE (a ->> 'x')"),
            ("a ->> 'x' IN ('y', 'z')", "(a ->> 'x') IN ('y', 'z')"),
            (
                "a ->> 'x' BETWEEN 'y' AND 'z'",
                "(a ->> 'x') BETWEEN 'y' AND 'z'",
            ),
            ("a ->> 'x' || 'y' = 'z'", "(a ->> 'x') || 'y' = 'z'"),
            ("a ? 'x' = b", "(a ? 'x') = b"),
            ("p AND a ->> 'x' = 'y' OR q", "p AND (a ->> 'x') = 'y' OR q"),
        ] {
            assert_eq!(read(written), meant);
        }
    }

    #[test]
    fn parentheses_stay_where_they_are() {
        assert_eq!(read("a -> ('x' = 'y')"), "(a -> ('x' = 'y'))");
        assert_eq!(read("(x = a) -> 'b'"), "((x = a) -> 'b')");
    }

    #[test]
    fn a_question_mark_before_a_string_is_the_operator() {
        assert_eq!(
            read("a ? 'x' AND b = ? AND c ?\n'y' AND d = ?"),
            "(a ? 'x') AND b = $1 AND (c ? 'y') AND d = $2"
        );
    }
}
