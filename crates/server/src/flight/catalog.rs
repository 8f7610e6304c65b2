//! The answers to what a Flight SQL client asks about the server and its tables, each one batch.

use arrow::array::RecordBatch;
use arrow_flight::error::Result;
use arrow_flight::sql::metadata::{SqlInfoData, SqlInfoDataBuilder};
use arrow_flight::sql::{
    CommandGetCatalogs, CommandGetDbSchemas, CommandGetTableTypes, CommandGetTables, SqlInfo,
    SqlSupportedTransaction,
};
use query::TableInfo;

/// The one catalog.
pub(crate) const CATALOG: &str = query::CATALOG;

/// What the server says of itself.
pub(crate) fn sql_info() -> Result<SqlInfoData> {
    let mut info = SqlInfoDataBuilder::new();
    info.append(SqlInfo::FlightSqlServerName, "Alluvium");
    info.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    info.append(SqlInfo::FlightSqlServerArrowVersion, "1.3");
    info.append(SqlInfo::FlightSqlServerReadOnly, true);
    info.append(SqlInfo::FlightSqlServerSql, true);
    info.append(SqlInfo::FlightSqlServerSubstrait, false);
    info.append(
        SqlInfo::FlightSqlServerTransaction,
        SqlSupportedTransaction::None as i32,
    );
    info.append(SqlInfo::FlightSqlServerCancel, false);
    info.append(SqlInfo::FlightSqlServerBulkIngestion, false);
    info.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    info.build()
}

/// One row: the catalog.
pub(crate) fn catalogs(query: CommandGetCatalogs) -> Result<RecordBatch> {
    let mut catalogs = query.into_builder();
    catalogs.append(CATALOG);
    catalogs.build()
}

/// One row per schema.
pub(crate) fn schemas(query: CommandGetDbSchemas, tables: &[TableInfo]) -> Result<RecordBatch> {
    let mut names: Vec<&str> = tables.iter().map(|table| table.schema.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let mut schemas = query.into_builder();
    for name in names {
        schemas.append(CATALOG, name);
    }
    schemas.build()
}

/// One row per table, with its columns if they were asked for.
pub(crate) fn tables(query: CommandGetTables, tables: &[TableInfo]) -> Result<RecordBatch> {
    let mut rows = query.into_builder();
    for table in tables {
        rows.append(
            CATALOG,
            &table.schema,
            &table.table,
            table.kind,
            &table.arrow_schema,
        )?;
    }
    rows.build()
}

/// One row per kind of table.
pub(crate) fn table_types(
    query: CommandGetTableTypes,
    tables: &[TableInfo],
) -> Result<RecordBatch> {
    let mut kinds: Vec<&str> = tables.iter().map(|table| table.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let mut rows = query.into_builder();
    for kind in kinds {
        rows.append(kind);
    }
    rows.build()
}
