//! Names that are close to one that does not exist.

/// At most this many are suggested.
const SUGGESTIONS_MAX: usize = 3;

/// The names of `candidates` (schema, table) that somebody who wrote `schema.table` may have meant, best first.
pub(crate) fn suggestions<'a>(
    schema: &str,
    table: &str,
    candidates: impl Iterator<Item = (&'a str, &'a str)>,
) -> Vec<String> {
    let wanted = table.to_lowercase();
    let mut scored: Vec<(usize, String)> = candidates
        .filter_map(|(in_schema, name)| {
            let lower = name.to_lowercase();
            let mut distance = edits(&wanted, &lower);
            if lower.strip_suffix('s') == Some(wanted.as_str())
                || wanted.strip_suffix('s') == Some(lower.as_str())
            {
                distance = 0;
            } else if lower.rsplit('.').next() == Some(wanted.as_str()) {
                distance = distance.min(1);
            }
            let close = distance * 3 <= wanted.chars().count().max(3);
            let elsewhere = usize::from(in_schema != schema);
            close.then(|| (distance * 2 + elsewhere, quoted(in_schema, name)))
        })
        .collect();
    scored.sort();
    scored
        .into_iter()
        .take(SUGGESTIONS_MAX)
        .map(|(_, name)| name)
        .collect()
}

fn quoted(schema: &str, table: &str) -> String {
    let plain = table
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if plain {
        format!("{schema}.{table}")
    } else {
        format!("{schema}.\"{table}\"")
    }
}

/// The Levenshtein distance in characters.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [(&str, &str); 5] = [
        ("atproto", "app.bsky.feed.post"),
        ("atproto", "records"),
        ("bsky", "like"),
        ("bsky", "post"),
        ("system", "segments"),
    ];

    fn suggest(schema: &str, table: &str) -> Vec<String> {
        suggestions(schema, table, NAMES.into_iter())
    }

    #[test]
    fn a_plural_and_a_slip_of_the_finger_find_the_table() {
        assert_eq!(suggest("bsky", "posts"), ["bsky.post"]);
        assert_eq!(suggest("bsky", "psot"), Vec::<String>::new());
        assert_eq!(suggest("bsky", "lke"), ["bsky.like"]);
        assert_eq!(suggest("system", "segmnts"), ["system.segments"]);
    }

    #[test]
    fn a_table_of_another_schema_is_named_with_it() {
        assert_eq!(suggest("bsky", "records"), ["atproto.records"]);
        assert_eq!(
            suggest("public", "post"),
            ["bsky.post", "atproto.\"app.bsky.feed.post\""]
        );
    }
}
