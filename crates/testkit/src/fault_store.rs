//! A store that fails as it is told: by a script, by a seed, or altogether.
//!
//! It decorates another store, counts requests, and remembers what happened, so that a test can compare two
//! runs of one seed. It reads no clock: waits go to a hook where one is set (which may turn a clock of the
//! test), and the times of objects come from a function of the test. It knows nothing of what it stores.

mod schedule;
mod stream;

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions,
    Result,
};
use tokio::sync::Semaphore;

use schedule::Schedule;
pub use schedule::{Operation, Rates, Rule};

/// What happens to a request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It fails; nothing was done.
    Before,
    /// It is done; the answer is lost.
    After,
    /// It fails with a 503; nothing was done.
    Unavailable,
    /// It answers `AlreadyExists`, as a 409 does; nothing was done.
    Conflict,
    /// It is refused for want of permission; nothing was done.
    Denied,
    /// It waits, and is done then.
    Delay(Duration),
    /// It is done; the answer waits.
    DelayAnswer(Duration),
    /// A PUT fails now, and is done when so many more requests have come in.
    Late(u32),
    /// A GET answers the first half of the bytes, as if they were all.
    Truncate,
    /// It waits at the gate, and is done then.
    Hold(Gate),
    /// It is done; the answer waits at the gate.
    HoldAnswer(Gate),
}

/// Where a request waits until the test lets it go on.
#[derive(Clone, Debug)]
pub struct Gate {
    arrived: Arc<Semaphore>,
    opened: Arc<Semaphore>,
}

impl Default for Gate {
    fn default() -> Self {
        let closed = || Arc::new(Semaphore::new(0));
        Self {
            arrived: closed(),
            opened: closed(),
        }
    }
}

impl Gate {
    /// Waits until a request stands at the gate.
    pub async fn arrived(&self) {
        if let Ok(permit) = self.arrived.acquire().await {
            permit.forget();
        }
    }

    /// Lets one request through, now or when it comes.
    pub fn open(&self) {
        self.opened.add_permits(1);
    }

    pub(crate) async fn pass(&self) {
        self.arrived.add_permits(1);
        if let Ok(permit) = self.opened.acquire().await {
            permit.forget();
        }
    }
}

/// How many requests came in. A deletion of many objects counts each of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// PUTs.
    pub put: u64,
    /// GETs, of ranges and of metadata too.
    pub get: u64,
    /// LISTs of all below a prefix.
    pub list: u64,
    /// LISTs of one level.
    pub list_with_delimiter: u64,
    /// DELETEs.
    pub delete: u64,
}

impl Counts {
    /// All LISTs.
    pub fn lists(&self) -> u64 {
        self.list + self.list_with_delimiter
    }

    /// All requests.
    pub fn total(&self) -> u64 {
        self.put + self.get + self.lists() + self.delete
    }

    fn count(&mut self, operation: Operation) {
        match operation {
            Operation::Put => self.put += 1,
            Operation::Get => self.get += 1,
            Operation::List => self.list += 1,
            Operation::ListWithDelimiter => self.list_with_delimiter += 1,
            Operation::Delete => self.delete += 1,
        }
    }
}

/// One request that came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What it asked for.
    pub operation: Operation,
    /// Of which object or prefix.
    pub path: Path,
    /// What was done to it, by the name of the [`Fault`]; `None` if it was let through.
    pub fault: Option<String>,
}

type WaitHook = Arc<dyn Fn(Duration) + Send + Sync>;
type TimeSource = Arc<dyn Fn() -> i64 + Send + Sync>;

/// An [`ObjectStore`] that fails as it is told. Clones share everything but the switch of [`FaultStore::kill`].
#[derive(Clone)]
pub struct FaultStore {
    inner: Arc<dyn ObjectStore>,
    state: Arc<Mutex<State>>,
    /// Whose requests: a process of its own dies alone.
    process: Arc<Mutex<Process>>,
}

#[derive(Default)]
struct State {
    schedule: Schedule,
    counts: Counts,
    history: Vec<Event>,
    late: Vec<LatePut>,
    on_wait: Option<WaitHook>,
    time: Option<TimeSource>,
    written_us: HashMap<Path, i64>,
}

#[derive(Debug, Default)]
struct Process {
    is_dead: bool,
    dies_after: Option<u32>,
}

struct LatePut {
    operations_left: u32,
    path: Path,
    payload: PutPayload,
    opts: PutOptions,
}

/// What a fault leaves to do.
enum Decision {
    Go,
    GoAndLose,
    GoAndWait(Duration),
    GoAndHold(Gate),
    Truncate,
    Late(u32),
}

impl FaultStore {
    /// Decorates `inner`; lets everything through until told otherwise.
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self {
            inner,
            state: Arc::default(),
            process: Arc::default(),
        }
    }

    /// Decorates a store in memory.
    pub fn in_memory() -> Self {
        Self::new(Arc::new(object_store::memory::InMemory::new()))
    }

    /// The same store, schedule and counts, seen by another process: one that [`FaultStore::kill`] kills apart.
    #[must_use]
    pub fn another_process(&self) -> Self {
        Self {
            process: Arc::default(),
            ..self.clone()
        }
    }

    /// Adds a rule. The first rule that fits a request, in the order they were added, has it.
    pub fn script(&self, rule: Rule) {
        self.state().schedule.rules.push(rule);
    }

    /// From here on, faults come at random, as `seed` and `rates` say, where no rule fits.
    pub fn seed(&self, seed: u64, rates: Rates) {
        self.state().schedule.seed(seed, rates);
    }

    /// Drops all rules and the random faults. What is late stays late.
    pub fn calm(&self) {
        self.state().schedule = Schedule::default();
    }

    /// Every later request of this process fails, and does nothing.
    pub fn kill(&self) {
        self.process().is_dead = true;
    }

    /// As [`FaultStore::kill`], after so many more requests.
    pub fn kill_after(&self, requests: u32) {
        self.process().dies_after = Some(requests);
    }

    /// Undoes [`FaultStore::kill`].
    pub fn revive(&self) {
        *self.process() = Process::default();
    }

    /// Where waits go, instead of the runtime's clock.
    pub fn on_wait(&self, hook: impl Fn(Duration) + Send + Sync + 'static) {
        self.state().on_wait = Some(Arc::new(hook));
    }

    /// What `Last-Modified` of objects says that are written from here on: µs since the epoch.
    pub fn time(&self, now_us: impl Fn() -> i64 + Send + Sync + 'static) {
        self.state().time = Some(Arc::new(now_us));
    }

    /// How many requests came in since the start, or since [`FaultStore::reset_counts`].
    pub fn counts(&self) -> Counts {
        self.state().counts
    }

    /// Counts from zero.
    pub fn reset_counts(&self) {
        self.state().counts = Counts::default();
    }

    /// Everything that came in, in order.
    pub fn history(&self) -> Vec<Event> {
        self.state().history.clone()
    }

    /// Does at once what [`Fault::Late`] still holds back.
    pub async fn land_late(&self) {
        let late = std::mem::take(&mut self.state().late);
        for put in late {
            self.land(put).await;
        }
    }

    async fn land(&self, put: LatePut) {
        // Its sender was told of an error long ago: nobody is there to hear how it ended.
        if self
            .inner
            .put_opts(&put.path, put.payload, put.opts)
            .await
            .is_ok()
        {
            self.stamp(&put.path);
        }
    }

    /// Counts and remembers a request, and says what becomes of it.
    async fn admit(&self, operation: Operation, path: &Path) -> Result<Decision> {
        let yields = self.state().schedule.yields();
        for _ in 0..yields {
            tokio::task::yield_now().await;
        }
        let (fault, due, on_wait) = {
            let mut state = self.state();
            state.counts.count(operation);
            let fault = state.schedule.next(operation, path);
            let name = fault.as_ref().map(|fault| format!("{fault:?}"));
            let name =
                name.map(|name| name.split(['(', ' ']).next().unwrap_or_default().to_owned());
            state.history.push(Event {
                operation,
                path: path.clone(),
                fault: name,
            });
            (fault, state.due(), state.on_wait.clone())
        };
        for put in due {
            self.land(put).await;
        }
        if self.process().dies_now() {
            return Err(generic("process is dead"));
        }
        let Some(fault) = fault else {
            return Ok(Decision::Go);
        };
        match fault {
            Fault::Before => Err(generic("connection lost before the request")),
            Fault::Unavailable => Err(generic("503 Slow Down")),
            Fault::Conflict => Err(Error::AlreadyExists {
                path: path.to_string(),
                source: "409 Conflict".into(),
            }),
            Fault::Denied => Err(Error::PermissionDenied {
                path: path.to_string(),
                source: "403 Forbidden".into(),
            }),
            Fault::After => Ok(Decision::GoAndLose),
            Fault::Delay(duration) => {
                wait(on_wait.as_ref(), duration).await;
                Ok(Decision::Go)
            }
            Fault::DelayAnswer(duration) => Ok(Decision::GoAndWait(duration)),
            Fault::Late(operations) => Ok(Decision::Late(operations)),
            Fault::Truncate => Ok(Decision::Truncate),
            Fault::Hold(gate) => {
                gate.pass().await;
                Ok(Decision::Go)
            }
            Fault::HoldAnswer(gate) => Ok(Decision::GoAndHold(gate)),
        }
    }

    /// Waits, or loses the answer, once the request is done.
    async fn answer<T>(&self, decision: Decision, done: T) -> Result<T> {
        match decision {
            Decision::Go | Decision::Truncate | Decision::Late(_) => Ok(done),
            Decision::GoAndLose => Err(generic("connection lost before the answer")),
            Decision::GoAndWait(duration) => {
                let on_wait = self.state().on_wait.clone();
                wait(on_wait.as_ref(), duration).await;
                Ok(done)
            }
            Decision::GoAndHold(gate) => {
                gate.pass().await;
                Ok(done)
            }
        }
    }

    fn stamp(&self, path: &Path) {
        let mut state = self.state();
        if let Some(now_us) = state.time.as_ref().map(|time| time()) {
            state.written_us.insert(path.clone(), now_us);
        }
    }

    /// Replaces the store's time by the test's.
    fn restamp(&self, mut meta: ObjectMeta) -> ObjectMeta {
        if let Some(written_us) = self.state().written_us.get(&meta.location) {
            let later_us = written_us - meta.last_modified.timestamp_micros();
            let shift = Duration::from_micros(later_us.unsigned_abs());
            if later_us >= 0 {
                meta.last_modified += shift;
            } else {
                meta.last_modified -= shift;
            }
        }
        meta
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Counts one request towards the late PUTs; returns those whose time has come.
    fn due(&mut self) -> Vec<LatePut> {
        for put in &mut self.late {
            put.operations_left = put.operations_left.saturating_sub(1);
        }
        self.late
            .extract_if(.., |put| put.operations_left == 0)
            .collect()
    }
}

impl Process {
    fn dies_now(&mut self) -> bool {
        match &mut self.dies_after {
            Some(0) => self.is_dead = true,
            Some(left) => *left -= 1,
            None => {}
        }
        self.is_dead
    }
}

async fn wait(hook: Option<&WaitHook>, duration: Duration) {
    match hook {
        Some(hook) => {
            hook(duration);
            tokio::task::yield_now().await;
        }
        None => tokio::time::sleep(duration).await,
    }
}

fn generic(what: &'static str) -> Error {
    Error::Generic {
        store: "FaultStore",
        source: what.into(),
    }
}

/// The first half of an answer, which says nothing of the rest.
async fn truncate(whole: GetResult) -> Result<GetResult> {
    let (meta, range, attributes) = (
        whole.meta.clone(),
        whole.range.clone(),
        whole.attributes.clone(),
    );
    let bytes = whole.bytes().await?;
    let half = bytes.slice(..bytes.len() / 2);
    let payload = GetResultPayload::Stream(futures::stream::once(async { Ok(half) }).boxed());
    Ok(GetResult {
        payload,
        meta,
        range,
        attributes,
    })
}

impl fmt::Debug for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultStore")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultStore({})", self.inner)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for FaultStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let decision = self.admit(Operation::Put, location).await?;
        if let Decision::Late(operations_left) = decision {
            let path = location.clone();
            self.state().late.push(LatePut {
                operations_left,
                path,
                payload,
                opts,
            });
            return Err(generic("connection lost, the request is on its way"));
        }
        let done = self.inner.put_opts(location, payload, opts).await;
        if done.is_ok() {
            self.stamp(location);
        }
        self.answer(decision, done).await?
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let decision = self.admit(Operation::Put, location).await?;
        let done = self.inner.put_multipart_opts(location, opts).await;
        self.answer(decision, done).await?
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let decision = self.admit(Operation::Get, location).await?;
        let mut done = self.inner.get_opts(location, options).await;
        if let Ok(result) = &mut done {
            result.meta = self.restamp(result.meta.clone());
        }
        if !matches!(decision, Decision::Truncate) {
            return self.answer(decision, done).await?;
        }
        truncate(done?).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let decision = self.admit(Operation::Get, location).await?;
        let mut done = self.inner.get_ranges(location, ranges).await;
        if matches!(decision, Decision::Truncate)
            && let Ok(parts) = &mut done
        {
            for part in parts {
                part.truncate(part.len() / 2);
            }
        }
        self.answer(decision, done).await?
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        stream::delete(self.clone(), locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        stream::list(self.clone(), prefix.cloned(), None)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        stream::list(self.clone(), prefix.cloned(), Some(offset.clone()))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let path = prefix.cloned().unwrap_or_default();
        let decision = self.admit(Operation::ListWithDelimiter, &path).await?;
        let mut done = self.inner.list_with_delimiter(prefix).await;
        if let Ok(found) = &mut done {
            let objects = std::mem::take(&mut found.objects);
            found.objects = objects.into_iter().map(|meta| self.restamp(meta)).collect();
        }
        self.answer(decision, done).await?
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let decision = self.admit(Operation::Put, to).await?;
        let done = self.inner.copy_opts(from, to, options).await;
        self.answer(decision, done).await?
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let decision = self.admit(Operation::Put, to).await?;
        let done = self.inner.rename_opts(from, to, options).await;
        self.answer(decision, done).await?
    }
}

#[cfg(test)]
mod tests;
