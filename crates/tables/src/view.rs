//! A read view: one manifest version and one tail of the log, from which all tables of a query are answered.
//!
//! The log is listed first and the manifest read after it, so what was merged and deleted before the LIST is in that
//! manifest. A writer's tail is the unbroken run of numbers above its `merged`; what stands behind a hole is not in
//! the view. A view is immutable; when an object that it names is gone, [`TablesError::Expired`] says so and a new
//! view must be opened. It knows nothing of SQL.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use arrow::array::RecordBatch;
use futures::{StreamExt, TryStreamExt};
use roaring::RoaringBitmap;
use storage::{Bucket, Chain, LogListing, Position, Root, Seq, Version, WriterId};
use tokio::sync::OnceCell;

use crate::additions::Catalogs;
use crate::cache::Cache;
use crate::error::TablesError;
use crate::floors::Floors;
use crate::hidden::HiddenAccounts;
use crate::judge::{News, Verdict, judge_against};
use crate::manifest::SegmentSet;
use crate::reshred::is_outdated;
use crate::schema::{Catalog, TableDef, TableKind, TableName};
use crate::segment::{SegmentEntry, SegmentKind};
use crate::tail::Tail;
use crate::waiting::{rows_of, segments_before};

/// Log objects that are read at once.
const READS_MAX: usize = 16;
/// How often an opening that lost a race against collection begins again.
const OPENINGS_MAX: usize = 5;

/// A bucket's tables: what readers and compactors of one process share. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tables {
    bucket: Bucket,
    chain: Chain,
    cache: Arc<Cache>,
    builtin: Arc<Catalog>,
    /// The tables of versions that Lexicons were added to, by the object that holds these.
    catalogs: Catalogs,
    /// The writers of the last LIST, with `merged` of the root read after it: where the next LIST of each starts.
    listed: Arc<Mutex<BTreeMap<WriterId, Seq>>>,
}

impl Tables {
    /// The tables of `bucket`: `builtin`, and those that were added to it.
    #[must_use]
    pub fn new(bucket: Bucket, cache: Arc<Cache>, builtin: Arc<Catalog>) -> Self {
        let chain = Chain::new(bucket.clone());
        Self {
            bucket,
            chain,
            cache,
            builtin,
            catalogs: Catalogs::default(),
            listed: Arc::default(),
        }
    }

    /// The bucket.
    #[must_use]
    pub fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// The manifest chain.
    #[must_use]
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Decoded immutable objects.
    #[must_use]
    pub fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }

    /// The tables that are there in every version, whatever was added.
    #[must_use]
    pub fn builtin(&self) -> &Arc<Catalog> {
        &self.builtin
    }

    /// The tables of the version whose segments `set` are. Costs one GET when something was added since.
    ///
    /// # Errors
    /// [`TablesError`] if the catalog that it names is gone, damaged or of a newer format.
    pub async fn catalog(&self, set: &SegmentSet) -> Result<Arc<Catalog>, TablesError> {
        match set.catalog() {
            None => Ok(Arc::clone(&self.builtin)),
            Some(named) => self.catalogs.get(&self.bucket, &self.builtin, named).await,
        }
    }

    /// Lists the log, then reads the newest manifest, in this order.
    ///
    /// Costs two rounds of LIST and at most one GET when the writers are known from before.
    ///
    /// # Errors
    /// [`TablesError`] from the store.
    pub(crate) async fn list(&self) -> Result<(LogListing, Arc<Root>), TablesError> {
        loop {
            let started_us = self.bucket.clock().now_us();
            let listed = self.list_once().await?;
            if !self.bucket.is_past_half_grace(started_us) {
                return Ok(listed);
            }
            // What the LISTs showed may have been collected before the manifest was read, and its number used again.
            tracing::warn!("opening the tables took longer than half the grace: beginning again");
        }
    }

    async fn list_once(&self) -> Result<(LogListing, Arc<Root>), TablesError> {
        let known = self
            .listed
            .lock()
            .map(|known| known.clone())
            .unwrap_or_default();
        let listing = storage::list_log(&self.bucket, &known).await?;
        let root = self.chain.newest_root().await?;
        if let Ok(mut known) = self.listed.lock() {
            // Writers that have objects: the dead ones, whose objects are collected, cost no LIST.
            let writers = listing
                .writers
                .keys()
                .map(|writer| (*writer, root.merged.get(writer).copied()));
            *known = writers
                .map(|(writer, merged)| (writer, merged.unwrap_or(Seq(0))))
                .collect();
        }
        Ok((listing, root))
    }
}

/// The physical name of a table: how segments and paths call it.
#[must_use]
pub fn physical_name(def: &TableDef) -> String {
    format!("{}.{}", def.name.schema, def.name.table)
}

/// One segment of a scan.
#[derive(Clone, Debug)]
pub struct SegmentScan {
    /// The segment.
    pub entry: Arc<SegmentEntry>,
    /// Its rows that are dead: marked, outdated by the tail, or of hidden accounts.
    pub dead: Arc<RoaringBitmap>,
}

impl SegmentScan {
    /// Its rows that are not dead.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.entry.rows.saturating_sub(self.dead.len())
    }
}

/// One segment whose rows are shredded anew while they are read: some of its values have a column by now.
#[derive(Clone, Debug)]
pub struct Reshred {
    /// The table whose columns the segment has: an older form of the scan's, or the one of records without a Lexicon.
    pub from: Arc<TableDef>,
    /// The segment; rows of other tables count as dead.
    pub segment: SegmentScan,
}

/// A table as one view has it: `segments` less their dead rows, those of `reshred` once they are shredded anew, and
/// `tail`. All rows are live, one a key, and none is the content of a hidden account.
#[derive(Clone, Debug)]
pub struct TableScan {
    /// The table.
    pub def: Arc<TableDef>,
    /// Its segments of rows.
    pub segments: Vec<SegmentScan>,
    /// Segments that came before the table, or before its newest columns, until they are written anew.
    pub reshred: Vec<Reshred>,
    /// Its rows in the tail, in the table's physical schema.
    pub tail: RecordBatch,
}

impl TableScan {
    /// Rows of the table, exactly.
    #[must_use]
    pub fn rows(&self) -> u64 {
        let segments: u64 = self.segments.iter().map(SegmentScan::rows).sum();
        segments + self.rows_before() + self.tail.num_rows() as u64
    }

    /// Rows that came before the table or its newest columns, and wait to be written anew.
    #[must_use]
    pub fn rows_before(&self) -> u64 {
        let before = self.reshred.iter();
        before.map(|reshred| reshred.segment.rows()).sum()
    }
}

type Scan = Arc<OnceCell<Arc<TableScan>>>;

/// One manifest version and one tail.
#[derive(Debug)]
pub struct ReadView {
    tables: Tables,
    root: Arc<Root>,
    segments: Arc<SegmentSet>,
    catalog: Arc<Catalog>,
    tail: Tail,
    listing: LogListing,
    floors: Floors,
    hidden: OnceCell<HiddenAccounts>,
    scans: Mutex<HashMap<TableName, Scan>>,
}

impl ReadView {
    /// Opens a view of what is durable now.
    ///
    /// Costs two rounds of LIST, at most one GET of a manifest, and a GET for each new log object and part.
    ///
    /// # Errors
    /// [`TablesError`] from the store, or because an object is damaged.
    pub async fn open(tables: &Tables) -> Result<Self, TablesError> {
        let mut openings = 0;
        loop {
            openings += 1;
            match Self::open_once(tables).await {
                // What was listed has been merged and collected since: begin again.
                Err(error) if error.is_expired() && openings < OPENINGS_MAX => {
                    tracing::debug!(openings, %error, "the view was collected while it was opened");
                }
                opened => return opened,
            }
        }
    }

    async fn open_once(tables: &Tables) -> Result<Self, TablesError> {
        let (listing, root) = tables.list().await?;
        let mut positions = Vec::new();
        for &writer in listing.writers.keys() {
            let run = listing.run(writer, root.merged.get(&writer).copied());
            positions.extend(run.into_iter().map(|seq| Position { writer, seq }));
        }
        let objects = futures::stream::iter(positions)
            .map(|position| tables.cache.tail_object(&tables.bucket, position))
            .buffer_unordered(READS_MAX)
            .try_collect()
            .await?;
        let tail = Tail::new(objects);
        let segments = tables.cache.segments(&tables.bucket, &root).await?;
        let catalog = tables.catalog(&segments).await?;
        let floors = tail.floors()?;
        Ok(Self {
            tables: tables.clone(),
            root,
            segments,
            catalog,
            tail,
            listing,
            floors,
            hidden: OnceCell::new(),
            scans: Mutex::default(),
        })
    }

    /// Its manifest's version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.root.version
    }

    /// Its manifest.
    #[must_use]
    pub fn root(&self) -> &Arc<Root> {
        &self.root
    }

    /// Its name: version and commit id, then the end of each writer's tail.
    #[must_use]
    pub fn name(&self) -> String {
        let mut name = format!("{}:{}", self.root.version, self.root.commit);
        for (writer, (_, last)) in self.tail.runs() {
            name.push_str(&format!("+{writer}/{last}"));
        }
        name
    }

    /// Its tables, those included that were added up to its version.
    #[must_use]
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// The tables' bucket and caches.
    #[must_use]
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// All segments of its version, of every table and kind.
    #[must_use]
    pub fn segments(&self) -> &Arc<SegmentSet> {
        &self.segments
    }

    /// Its tail.
    #[must_use]
    pub fn tail(&self) -> &Tail {
        &self.tail
    }

    /// What the LIST of the log showed, what is merged already and what stands behind a hole included.
    #[must_use]
    pub fn listing(&self) -> &LogListing {
        &self.listing
    }

    /// A table as this view has it. The tail is judged once for each table and view.
    ///
    /// # Errors
    /// [`TablesError`] if a segment can't be read; [`TablesError::Expired`] if the view has been collected.
    pub async fn scan(&self, def: &Arc<TableDef>) -> Result<Arc<TableScan>, TablesError> {
        let cell = match self.scans.lock() {
            Ok(mut scans) => Arc::clone(scans.entry(def.name.clone()).or_default()),
            Err(_) => Scan::default(),
        };
        cell.get_or_try_init(|| self.judged(def)).await.cloned()
    }

    /// The accounts whose records this view does not show. Worked out once.
    ///
    /// # Errors
    /// [`TablesError`] if a segment can't be read; [`TablesError::Expired`] if the view has been collected.
    pub async fn hidden(&self) -> Result<&HiddenAccounts, TablesError> {
        let (tables, segments, tail) = (&self.tables, &self.segments, &self.tail);
        self.hidden
            .get_or_try_init(|| HiddenAccounts::of(tables, segments, tail))
            .await
    }

    async fn judged(&self, def: &Arc<TableDef>) -> Result<Arc<TableScan>, TablesError> {
        let Tables { bucket, cache, .. } = &self.tables;
        let segments = self.segments.of_table(&physical_name(def));
        let tail = self.tail.table(&self.catalog, def, &self.floors)?;
        let news = News {
            rows: Some(&tail.rows),
            tombstones: tail.tombstones.as_ref(),
        };
        let mut verdict =
            judge_against(&self.tables, def, news, &self.floors, &self.segments).await?;
        let mut segments = segments.to_vec();
        segments.retain(|entry| entry.kind == SegmentKind::Rows);
        let nobody = HiddenAccounts::default();
        let hidden = match def.is_records() {
            true => self.hidden().await?,
            false => &nobody,
        };
        let (mut scans, mut reshred) = (Vec::with_capacity(segments.len()), Vec::new());
        let theirs = hidden.rows_of(&self.tables, &segments).await?;
        for (entry, theirs) in segments.into_iter().zip(theirs) {
            let marks = cache.marks(bucket, &entry).await?;
            let outdated = verdict.dead.remove(&entry.path).map(Arc::new);
            let moved = self.moved(def, &entry).await?;
            let dead = union([Some(marks), outdated, Some(theirs), moved]);
            let is_outdated = is_outdated(&entry, def);
            let segment = SegmentScan { entry, dead };
            if is_outdated {
                let from = Arc::clone(def);
                reshred.push(Reshred { from, segment });
            } else {
                scans.push(segment);
            }
        }
        reshred.extend(self.before(def, &mut verdict, hidden).await?);
        let tail = hidden.shown(&tail.rows.batch, &verdict.outdated_rows)?;
        Ok(Arc::new(TableScan {
            def: Arc::clone(def),
            segments: scans,
            reshred,
            tail,
        }))
    }

    /// The rows of a segment of records without a Lexicon that belong to a table by now.
    async fn moved(
        &self,
        def: &TableDef,
        entry: &Arc<SegmentEntry>,
    ) -> Result<Option<Arc<RoaringBitmap>>, TablesError> {
        match (&def.kind, self.segments.catalog()) {
            (TableKind::Untyped, Some(catalog)) => {
                let moved = rows_of(&self.tables, entry, &catalog.waiting).await?;
                Ok(Some(Arc::new(moved)))
            }
            _ => Ok(None),
        }
    }

    /// The segments in which records of `def` stand that came before it.
    async fn before(
        &self,
        def: &TableDef,
        verdict: &mut Verdict,
        hidden: &HiddenAccounts,
    ) -> Result<Vec<Reshred>, TablesError> {
        let (mut found, tables) = (Vec::new(), &self.tables);
        let Some(record) = def.record_type() else {
            return Ok(found);
        };
        let collection = BTreeSet::from([record.collection().to_owned()]);
        let mut segments = segments_before(tables, &self.segments, def).to_vec();
        segments.retain(|entry| entry.kind == SegmentKind::Rows);
        let theirs = hidden.rows_of(tables, &segments).await?;
        for (entry, theirs) in segments.into_iter().zip(theirs) {
            let mut live = rows_of(tables, &entry, &collection).await?;
            if live.is_empty() {
                continue;
            }
            live -= tables.cache.marks(&tables.bucket, &entry).await?.as_ref();
            live -= theirs.as_ref();
            live -= verdict.dead.remove(&entry.path).unwrap_or_default();
            let mut dead = RoaringBitmap::new();
            dead.insert_range(0..u32::try_from(entry.rows).unwrap_or(u32::MAX));
            dead -= &live;
            if !live.is_empty() {
                let dead = Arc::new(dead);
                found.push(Reshred {
                    from: Arc::clone(tables.builtin.untyped()),
                    segment: SegmentScan { entry, dead },
                });
            }
        }
        Ok(found)
    }
}

/// The rows that are in any of `sets`; nothing is copied while at most one holds any.
fn union(sets: [Option<Arc<RoaringBitmap>>; 4]) -> Arc<RoaringBitmap> {
    let sets = sets.into_iter().flatten().filter(|set| !set.is_empty());
    sets.reduce(|all, more| Arc::new(all.as_ref() | more.as_ref()))
        .unwrap_or_default()
}
