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

/// Which repositories wait for, or went through, a resync, and how far each attempt came.
const RESYNCS: &str = "
SELECT indexed_at, kind, reason, source, nullif(did, '') AS did, nullif(rev, '') AS rev, attempt, step
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
