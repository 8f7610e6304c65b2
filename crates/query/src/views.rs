//! Tables that are a query over stored, hidden ones, written in SQL.
//!
//! The text is planned when somebody names the view, over the same cut as the rest of the query. Filters and
//! projections reach the stored tables through the optimizer like through any subquery.

/// A table that is a query over stored ones.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SqlView {
    pub(crate) schema: &'static str,
    pub(crate) table: &'static str,
    pub(crate) sql: &'static str,
}

/// All of them.
pub(crate) const SQL_VIEWS: [SqlView; 5] = [
    SqlView {
        schema: "atproto",
        table: "accounts",
        sql: ACCOUNTS,
    },
    SqlView {
        schema: "system",
        table: "rejections",
        sql: REJECTIONS,
    },
    SqlView {
        schema: "system",
        table: "resyncs",
        sql: RESYNCS,
    },
    SqlView {
        schema: "system",
        table: "collections",
        sql: COLLECTIONS,
    },
    SqlView {
        schema: "system",
        table: "sources",
        sql: SOURCES,
    },
];

/// One row for each did that anything is known of.
///
/// As `crdt::merge` has it: which host an account has is told by a directory (its answers have no `seq`) before frames.
/// On the account's state that host's own answer goes before what others tell, then the highest by (`at`, `seq`, bytes).
/// A handle, too, is a directory's before all others'. It is taken from the best row that has one, since an `#identity`
/// may come without.
const ACCOUNTS: &str = "
WITH told AS (
    SELECT did, source, false AS asked, at, seq, tie, indexed_at, active, status,
           CAST(NULL AS VARCHAR) AS handle, CAST(NULL AS VARCHAR) AS pds, CAST(NULL AS VARCHAR) AS rev
    FROM account_states
    UNION ALL
    SELECT did, source, seq IS NULL AS asked, at, seq, tie, indexed_at, CAST(NULL AS BOOLEAN) AS active,
           CAST(NULL AS VARCHAR) AS status, handle, pds, CAST(NULL AS VARCHAR) AS rev
    FROM identities
    UNION ALL
    SELECT did, source, false AS asked, indexed_at AS at, CAST(NULL AS BIGINT) AS seq, CAST(NULL AS BYTEA) AS tie,
           indexed_at, CAST(NULL AS BOOLEAN) AS active, CAST(NULL AS VARCHAR) AS status,
           CAST(NULL AS VARCHAR) AS handle, CAST(NULL AS VARCHAR) AS pds, rev
    FROM heads
), hosted AS (
    SELECT *, last_value(pds) IGNORE NULLS OVER (
               PARTITION BY did ORDER BY asked, at, seq NULLS FIRST, tie, source
               ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS host
    FROM told
), placed AS (
    SELECT *,
           lower(split_part(split_part(split_part(split_part(source, '://', 2), '/', 1), '?', 1), '#', 1))
               AS source_authority,
           lower(split_part(split_part(split_part(split_part(host, '://', 2), '/', 1), '?', 1), '#', 1))
               AS host_authority
    FROM hosted
), ranked AS (
    SELECT *, coalesce(source_authority <> '' AND source_authority = host_authority, false) AS own FROM placed
)
SELECT did,
       last_value(handle ORDER BY asked, own, at, seq NULLS FIRST, tie, source) FILTER (WHERE handle IS NOT NULL)
           AS handle,
       last_value(status ORDER BY own, at, seq NULLS FIRST, tie, source) FILTER (WHERE active IS NOT NULL) AS status,
       coalesce(last_value(active ORDER BY own, at, seq NULLS FIRST, tie, source) FILTER (WHERE active IS NOT NULL),
                true) AS active,
       last_value(pds ORDER BY asked, at, seq NULLS FIRST, tie, source) FILTER (WHERE pds IS NOT NULL) AS pds,
       max(rev) AS rev,
       max(indexed_at) AS indexed_at
FROM ranked
GROUP BY did";

/// What was refused and why, without what was in it.
const REJECTIONS: &str = "
SELECT indexed_at, reason, source, nullif(did, '') AS did, nullif(rev, '') AS rev, seq, bytes,
       encode(CAST(frame_hash AS BYTEA), 'hex') AS frame_hash
FROM notices WHERE kind = 'rejection'";

/// Which repositories wait for, or went through, a resync, and how far each attempt came: one row a mark. A mark without
/// a did is a comparison with all that a source lists. Gaps are told beside them, without a state.
///
/// A failure stands behind the mark's reason, and the states are `crdt::ResyncStep`'s.
const RESYNCS: &str = "
SELECT indexed_at, kind, split_part(reason, '/', 1) AS reason, source, nullif(did, '') AS did, nullif(rev, '') AS rev,
       CASE WHEN kind = 'resync' THEN
           CASE step WHEN 0 THEN 'waiting' WHEN 1 THEN 'fetching' WHEN 2 THEN 'fetched' WHEN 3 THEN 'synchronized'
                     WHEN 4 THEN 'gone' WHEN 5 THEN 'failed' ELSE 'unknown' END
       END AS state,
       attempt, step, nullif(split_part(reason, '/', 2), '') AS error
FROM notices WHERE kind IN ('resync', 'gap')";

/// Which collections are heard at which source, and which fell silent there while it told of others.
const COLLECTIONS: &str = "
SELECT source, reason AS collection, step = 0 AS silent, indexed_at AS since
FROM notices WHERE kind = 'silence'";

/// How far each part of a source has been followed, and what was noticed of the source: frames that were refused, repos
/// that wait to be fetched, collections that fell silent.
const SOURCES: &str = "
WITH noticed AS (
    SELECT source,
           count(*) FILTER (WHERE kind = 'rejection') AS rejected,
           count(*) FILTER (WHERE kind = 'resync' AND step NOT IN (3, 4)) AS resyncs_open,
           count(*) FILTER (WHERE kind = 'silence' AND step = 0) AS collections_silent
    FROM notices GROUP BY source
)
SELECT cursors.source, slice, generation, cursor, indexed_at,
       coalesce(rejected, 0) AS rejected, coalesce(resyncs_open, 0) AS resyncs_open,
       coalesce(collections_silent, 0) AS collections_silent
FROM cursors LEFT JOIN noticed ON noticed.source = cursors.source";

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
    use datafusion::prelude::SessionContext;
    use tables::crdt::ResyncStep;

    use super::*;

    #[tokio::test]
    async fn a_resync_s_state_is_a_word_and_its_failure_a_column() {
        let steps: Vec<i64> = ResyncStep::ALL
            .into_iter()
            .map(|step| i64::from(step.number()))
            .chain([99])
            .collect();
        let text = |value: &str| Arc::new(StringArray::from(vec![value; steps.len()])) as ArrayRef;
        let int = |values: Vec<i64>| Arc::new(Int64Array::from(values)) as ArrayRef;
        let notices = RecordBatch::try_from_iter([
            ("indexed_at", int(vec![0; steps.len()])),
            ("kind", text("resync")),
            ("reason", text("sync/behind")),
            ("source", text("https://relay.example")),
            ("did", text("")),
            ("rev", text("")),
            ("attempt", int(vec![1; steps.len()])),
            ("step", int(steps.clone())),
        ])
        .expect("columns of one length");
        let session = SessionContext::new();
        session.register_batch("notices", notices).expect("a table");
        let sql = format!("SELECT state, reason, error, did FROM ({RESYNCS}) AS r ORDER BY step");
        let rows = session.sql(&sql).await.expect("planned");
        let rows = rows.collect().await.expect("answered");
        let column = |place: usize| -> Vec<Option<String>> {
            let batches = rows.iter();
            batches
                .flat_map(|batch| {
                    let values = arrow::compute::cast(
                        batch.column(place),
                        &arrow::datatypes::DataType::Utf8,
                    );
                    let values = values.expect("text");
                    let values = values.as_string::<i32>().iter();
                    values
                        .map(|text| text.map(str::to_owned))
                        .collect::<Vec<_>>()
                })
                .collect()
        };
        let mut expected: Vec<&str> = ResyncStep::ALL.iter().map(|step| step.as_str()).collect();
        expected.push("unknown");
        let states = column(0);
        let states: Vec<&str> = states.iter().flatten().map(String::as_str).collect();
        assert_eq!(states, expected);
        assert!(
            column(1)
                .iter()
                .all(|reason| reason.as_deref() == Some("sync"))
        );
        assert!(
            column(2)
                .iter()
                .all(|error| error.as_deref() == Some("behind"))
        );
        assert!(column(3).iter().all(Option::is_none));
    }
}
