//! Parameters with names, `$did`: how a person writes them; on the wire they are numbered, `$1`.
//!
//! Guarantees that a name keeps one number however often it stands, and that text inside literals, quoted names and
//! comments stays as it is. Values come as text and take the type that the statement gives them.

use crate::error::QueryError;
use arrow::datatypes::Schema;
use datafusion::common::ScalarValue;
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, Tokenizer};

/// A statement whose named parameters have become numbered ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    sql: String,
    names: Vec<String>,
}

impl Named {
    /// Numbers the names of `sql` in the order in which they first stand.
    ///
    /// # Errors
    /// [`QueryError::Invalid`] if it has no tokens, or has both named parameters and numbered ones.
    pub fn parse(sql: &str) -> Result<Self, QueryError> {
        let tokens = Tokenizer::new(&GenericDialect {}, sql)
            .tokenize_with_location()
            .map_err(|error| QueryError::planning(ParserError::from(error).into()))?;
        let mut names: Vec<String> = Vec::new();
        let mut numbered = String::with_capacity(sql.len());
        let (mut copied, mut has_numbers) = (0, false);
        let mut offsets = Offsets::new(sql);
        for token in &tokens {
            let Token::Placeholder(text) = &token.token else {
                continue;
            };
            let name = text.trim_start_matches(['$', '?']);
            if name.chars().all(|digit| digit.is_ascii_digit()) {
                has_numbers = true;
                continue;
            }
            let number = names.iter().position(|known| known == name);
            let number = number.unwrap_or_else(|| {
                names.push(name.to_owned());
                names.len() - 1
            });
            let start = offsets.of(token.span.start);
            numbered.push_str(sql.get(copied..start).unwrap_or_default());
            numbered.push_str(&format!("${}", number + 1));
            copied = start + text.len();
        }
        if has_numbers && !names.is_empty() {
            let problem = "parameters have either names ($did) or numbers ($1, ?), not both";
            return Err(QueryError::planning(DataFusionError::Plan(
                problem.to_owned(),
            )));
        }
        numbered.push_str(sql.get(copied..).unwrap_or_default());
        Ok(Self {
            sql: numbered,
            names,
        })
    }

    /// The statement with `$1`, `$2`, ….
    pub fn sql(&self) -> &str {
        &self.sql
    }

    /// The names of `$1`, `$2`, ….
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The values in the order of their numbers, out of pairs of a name and a value.
    ///
    /// # Errors
    /// [`QueryError::Named`] if a name has no value or two, or if the statement has no such parameter.
    pub fn values<'a>(&self, given: &'a [(String, String)]) -> Result<Vec<&'a str>, QueryError> {
        let wrong = |problem| QueryError::Named {
            problem,
            names: self.names.clone(),
        };
        for (place, (name, _)) in given.iter().enumerate() {
            if !self.names.contains(name) {
                return Err(wrong(format!("the statement has no parameter ${name}")));
            }
            if given.iter().take(place).any(|(earlier, _)| earlier == name) {
                return Err(wrong(format!("${name} was given twice")));
            }
        }
        let value = |name: &String| {
            let found = given.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.as_str())
        };
        let values = self.names.iter();
        values
            .map(|name| value(name).ok_or_else(|| wrong(format!("${name} has no value"))))
            .collect()
    }
}

/// `texts` as values of the types of `parameters`, as [`crate::Engine::plan_schema`] gives them.
///
/// # Errors
/// [`QueryError::Parameters`] if they are not as many, [`QueryError::Invalid`] if one is no value of its type.
pub fn typed(parameters: &Schema, texts: &[&str]) -> Result<Vec<ScalarValue>, QueryError> {
    if parameters.fields().len() != texts.len() {
        return Err(QueryError::Parameters {
            expected: parameters.fields().len(),
            given: texts.len(),
        });
    }
    let fields = parameters.fields().iter();
    fields
        .zip(texts)
        .map(|(field, text)| {
            ScalarValue::try_from_string((*text).to_owned(), field.data_type())
                .map_err(QueryError::planning)
        })
        .collect()
}

/// Byte offsets of locations, which are asked for in their order.
struct Offsets<'a> {
    rest: std::iter::Peekable<std::str::CharIndices<'a>>,
    at: Location,
    end: usize,
}

impl<'a> Offsets<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            rest: text.char_indices().peekable(),
            at: Location { line: 1, column: 1 },
            end: text.len(),
        }
    }

    fn of(&mut self, location: Location) -> usize {
        while self.at < location {
            match self.rest.next() {
                Some((_, '\n')) => {
                    self.at.line += 1;
                    self.at.column = 1;
                }
                Some(_) => self.at.column += 1,
                None => break,
            }
        }
        self.rest.peek().map_or(self.end, |(offset, _)| *offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{DataType, Field, TimeUnit};

    #[test]
    fn a_name_has_one_number_wherever_it_stands() {
        let named = Named::parse(
            "-- $did, über ?\nSELECT '日本 $did', \"$x\" FROM post\n WHERE did = $did OR x > $since AND y = $did",
        )
        .expect("parses");
        assert_eq!(
            named.sql(),
            "-- $did, über ?\nSELECT '日本 $did', \"$x\" FROM post\n WHERE did = $1 OR x > $2 AND y = $1"
        );
        assert_eq!(named.names(), ["did", "since"]);
    }

    #[test]
    fn what_has_no_names_stays_as_it_is() {
        for sql in [
            "SELECT 1",
            "SELECT ?, ?",
            "SELECT $2, $1",
            "SELECT $$a $b$$",
            "",
        ] {
            let named = Named::parse(sql).expect("parses");
            assert_eq!((named.sql(), named.names().len()), (sql, 0));
        }
        assert!(Named::parse("SELECT $1, $did").is_err());
    }

    #[test]
    fn each_name_wants_one_value() {
        let named = Named::parse("SELECT $b, $a").expect("parses");
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let (a, b) = (pair("a", "1"), pair("b", "2=3"));
        assert_eq!(
            named.values(&[a.clone(), b.clone()]).expect("values"),
            ["2=3", "1"]
        );
        let problem = |given: &[(String, String)]| match named.values(given) {
            Err(error) => error.to_string(),
            Ok(values) => format!("{values:?}"),
        };
        assert!(problem(std::slice::from_ref(&b)).contains("$a has no value"));
        assert!(problem(&[a.clone(), b, pair("c", "")]).contains("no parameter $c"));
        assert!(problem(&[a.clone(), a]).contains("$a was given twice"));
    }

    #[test]
    fn a_text_takes_the_type_of_its_parameter() {
        let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let field = |name: &str, data_type| Field::new(name, data_type, true);
        let schema = Schema::new(vec![field("$1", DataType::Int64), field("$2", time)]);
        let values = typed(&schema, &["10", "2026-07-01"]).expect("values");
        assert_eq!(values.first(), Some(&ScalarValue::from(10_i64)));
        assert_eq!(
            values.get(1),
            Some(&ScalarValue::TimestampMicrosecond(
                Some(1_782_864_000_000_000),
                Some("UTC".into())
            ))
        );
        assert!(typed(&schema, &["ten", "2026-07-01"]).is_err());
        assert!(typed(&schema, &["10"]).is_err());
    }
}
