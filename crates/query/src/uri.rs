//! The virtual column `uri`: how it is made, and what a filter on it says about the columns it is made of.

use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, col, lit};
use datafusion::prelude::concat;

/// The column's name.
pub(crate) const URI: &str = "uri";

/// Longer lists of URIs are left to the filter above the scan.
const IMPLIED_URIS_MAX: usize = 1000;

/// `at://did/collection/rkey`, where the collection is a literal or a column.
pub(crate) fn uri_expr(collection: Option<&str>) -> Expr {
    let middle = match collection {
        Some(collection) => lit(format!("/{collection}/")),
        None => concat(vec![lit("/"), col("collection"), lit("/")]),
    };
    concat(vec![lit("at://"), col("did"), middle, col("rkey")]).alias(URI)
}

/// What `filters` on `uri` imply for `did`, `collection` and `rkey`: reads less, decides nothing.
///
/// A URI that does not parse matches no row, and so implies nothing that needs to be read.
pub(crate) fn implied(filters: &[Expr]) -> Vec<Expr> {
    filters
        .iter()
        .filter_map(uris_of)
        .flat_map(|uris| columns_of(&uris))
        .collect()
}

/// Whether the filter names the virtual column, so that stored columns cannot answer it.
pub(crate) fn names_uri(filter: &Expr) -> bool {
    filter.column_refs().iter().any(|column| column.name == URI)
}

fn uris_of(filter: &Expr) -> Option<Vec<String>> {
    match filter {
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::Eq,
            right,
        }) => {
            let literal = if is_uri(left) {
                right
            } else if is_uri(right) {
                left
            } else {
                return None;
            };
            Some(vec![text_of(literal)?])
        }
        Expr::InList(InList {
            expr,
            list,
            negated: false,
        }) if is_uri(expr) && list.len() <= IMPLIED_URIS_MAX => list.iter().map(text_of).collect(),
        _ => None,
    }
}

fn is_uri(expr: &Expr) -> bool {
    matches!(expr, Expr::Column(column) if column.name == URI)
}

fn text_of(expr: &Expr) -> Option<String> {
    let Expr::Literal(value, _) = expr else {
        return None;
    };
    match value {
        ScalarValue::Utf8(text) | ScalarValue::LargeUtf8(text) | ScalarValue::Utf8View(text) => {
            text.clone()
        }
        _ => None,
    }
}

fn columns_of(uris: &[String]) -> Vec<Expr> {
    let (mut dids, mut collections, mut rkeys) = (Vec::new(), Vec::new(), Vec::new());
    for uri in uris {
        let mut pieces = uri.strip_prefix("at://").unwrap_or_default().splitn(3, '/');
        if let (Some(did), Some(collection), Some(rkey)) =
            (pieces.next(), pieces.next(), pieces.next())
        {
            dids.push(lit(did));
            collections.push(lit(collection));
            rkeys.push(lit(rkey));
        }
    }
    if dids.is_empty() {
        return vec![lit(false)];
    }
    [("did", dids), ("collection", collections), ("rkey", rkeys)]
        .into_iter()
        .map(|(column, mut values)| match (values.len(), values.pop()) {
            (1, Some(value)) => col(column).eq(value),
            (_, last) => col(column).in_list(values.into_iter().chain(last).collect(), false),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_equal_uri_names_its_three_columns() {
        let filter = col("uri").eq(lit("at://did:plc:a/app.bsky.feed.post/3k"));
        let implied: Vec<String> = implied(&[filter]).iter().map(ToString::to_string).collect();
        assert_eq!(
            implied,
            [
                "did = Utf8(\"did:plc:a\")",
                "collection = Utf8(\"app.bsky.feed.post\")",
                "rkey = Utf8(\"3k\")"
            ]
        );
    }

    #[test]
    fn what_is_no_uri_matches_nothing() {
        assert_eq!(implied(&[col("uri").eq(lit("post"))]), [lit(false)]);
    }

    #[test]
    fn other_filters_imply_nothing() {
        assert!(implied(&[col("uri").gt(lit("at://a/b/c")), col("did").eq(lit("x"))]).is_empty());
        assert!(implied(&[col("uri").in_list(vec![lit("at://a/b/c")], true)]).is_empty());
    }
}
