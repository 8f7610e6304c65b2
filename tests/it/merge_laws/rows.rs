//! A table's rows as sorted text, from a view and from the model: every column that is no observation.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use crdt::Change;
use crdt::merge_model::Model;
use futures::TryStreamExt;
use tables::reshred::Reshredder;
use tables::rows::rows_of;
use tables::schema::{Catalog, TableDef};
use tables::segment::read_live;
use tables::shred::{RecordRow, Shredder};
use tables::view::ReadView;

/// Columns that tell of a delivery. Those that a table has in its key are no observations there.
const OBSERVED: [&str; 5] = ["indexed_at", "time", "source", "seq", "verification"];

/// The rows of `def` that `view` answers with.
pub(crate) async fn of_view(view: &ReadView, def: &Arc<TableDef>) -> Vec<String> {
    let scan = view.scan(def).await.expect("a scan");
    let mut rows = render(def, &scan.tail);
    for segment in &scan.segments {
        let tables = view.tables();
        let reader = tables
            .cache()
            .reader(tables.bucket(), &segment.entry)
            .await
            .expect("a segment's index");
        let live = read_live(&reader, &segment.dead).await.expect("a segment");
        let batches: Vec<_> = live.try_collect().await.expect("a segment's rows");
        rows.extend(batches.iter().flat_map(|(batch, _)| render(def, batch)));
    }
    for reshred in &scan.reshred {
        let (tables, entry) = (view.tables(), &reshred.segment.entry);
        let reader = tables.cache().reader(tables.bucket(), entry).await;
        let reader = reader.expect("a segment's index");
        let live = read_live(&reader, &reshred.segment.dead).await;
        let batches: Vec<_> = live.expect("a segment").try_collect().await.expect("rows");
        let reshredder = Reshredder::new(&reshred.from, def).expect("records");
        for (batch, _) in batches {
            rows.extend(render(def, &reshredder.rows(&batch).expect("rows")));
        }
    }
    assert_eq!(
        rows.len() as u64,
        scan.rows(),
        "{}: the count without reading is exact",
        def.name
    );
    rows.sort_unstable();
    rows
}

/// The rows of `def` that the model has.
pub(crate) fn of_model(model: &Model, catalog: &Catalog, def: &TableDef) -> Vec<String> {
    let batch = if def.is_records() {
        let mut shredder = Shredder::new(def).expect("a table of records");
        for record in model
            .records()
            .filter(|record| catalog.records_of(record.collection.as_str()).name == def.name)
        {
            shredder
                .push(&RecordRow::of(record).expect("a live record"))
                .expect("a record");
        }
        shredder.finish().batch
    } else {
        let batches = model
            .rows()
            .filter(|change| !matches!(change, Change::Record(_)));
        let batches: Vec<RecordBatch> = batches
            .filter_map(|change| rows_of(def, [change]).ok())
            .collect();
        arrow::compute::concat_batches(&def.schema, &batches).expect("batches of one schema")
    };
    let mut rows = render(def, &batch);
    rows.sort_unstable();
    rows
}

fn render(def: &TableDef, batch: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::default().with_null("∅");
    let columns: Vec<(&str, ArrayFormatter<'_>)> = batch
        .schema_ref()
        .fields()
        .iter()
        .zip(batch.columns())
        .filter(|(field, _)| {
            let name = field.name().as_str();
            !OBSERVED.contains(&name) || def.key.contains(&name) || def.order.contains(&name)
        })
        .map(|(field, array)| {
            (
                field.name().as_str(),
                ArrayFormatter::try_new(array.as_ref(), &options).expect("a formatter"),
            )
        })
        .collect();
    (0..batch.num_rows())
        .map(|row| {
            columns
                .iter()
                .map(|(name, array)| format!("{name}={}; ", array.value(row)))
                .collect()
        })
        .collect()
}
