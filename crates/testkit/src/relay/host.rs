//! One host: a relay of all accounts, or the PDS of some.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use atproto::{Did, SyncFrame};
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::accounts::Accounts;
use super::backlog::{Backlog, CursorRule, Sent, Start};
use super::desk::{Desk, Endpoint};
use super::distort::{Effect, Item, Told, distort};
use super::fault::{FetchFault, Plan, Refusal, StreamFault, WireFault};
use super::server::Server;
use super::xrpc;
use crate::fault_store::Gate;

/// A relay or a PDS. Dropping it ends it.
#[derive(Debug)]
pub struct FakeHost {
    shared: Arc<Shared>,
    server: Server,
}

/// What a host's connections share.
#[derive(Debug)]
pub(super) struct Shared {
    /// Its place among the PDSes; none is a relay.
    pub(super) pds: Option<usize>,
    pub(super) desk: Desk,
    accounts: Arc<Mutex<Accounts>>,
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

/// The stream of a host.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) backlog: Backlog,
    pub(super) rule: CursorRule,
    /// By how many messages a reader may fall behind before it is told off.
    pub(super) lag_max: Option<u64>,
    /// The place that each connected reader is at.
    pub(super) readers: BTreeMap<u64, u64>,
    readers_ever: u64,
    stream_plan: Plan<StreamFault>,
    pub(super) wire_plan: Plan<WireFault>,
    refusals: VecDeque<Refusal>,
    page_max: Option<usize>,
    held: Vec<Held>,
    before: HashMap<Did, SyncFrame>,
}

/// A message that comes later than it should.
#[derive(Debug)]
struct Held {
    did: Did,
    item: Item,
    /// Behind how many messages of others; none is behind the next one of its own account.
    left: Option<u16>,
}

impl State {
    /// Keeps a message, or what the plan makes of it.
    fn take(&mut self, told: &Told) {
        let did = told.did();
        // An account's messages stay in their order, except where two are swapped.
        self.release(|held| held.did == *did && held.left.is_some());
        let is_swapping = self.held.iter().any(|held| held.did == *did);
        let before = self.before.get(did);
        let planned = self.stream_plan.turn(|fault| match fault {
            StreamFault::Hold(_) | StreamFault::Swap if is_swapping => None,
            _ => distort(fault, told, before),
        });
        let item = Item::from(told.frame.clone());
        let left = match planned {
            Some((_, Effect::Hold(messages))) => Some(Some(messages)),
            Some((_, Effect::Swap)) => Some(None),
            Some((_, Effect::Items(items))) => {
                items.into_iter().for_each(|item| self.push(item));
                None
            }
            None => {
                self.push(item.clone());
                None
            }
        };
        if is_swapping {
            self.release(|held| held.did == *did);
        }
        if let Some(left) = left {
            let did = did.clone();
            self.held.push(Held { did, item, left });
        }
        for held in self.held.iter_mut().filter(|held| held.did != *did) {
            held.left = held.left.map(|left| left.saturating_sub(1));
        }
        self.release(|held| held.left == Some(0));
        if let Some(state) = &told.state {
            self.before.insert(did.clone(), state.clone());
        }
    }

    fn release(&mut self, is_due: impl Fn(&Held) -> bool) {
        let (due, held) = std::mem::take(&mut self.held).into_iter().partition(is_due);
        self.held = held;
        let due: Vec<Held> = due;
        due.into_iter().for_each(|held| self.push(held.item));
    }

    fn push(&mut self, item: Item) {
        let last = self.backlog.last();
        // Numbers have gaps.
        let seq = last + if last % 7 == 6 { 3 } else { 1 };
        let bytes = Bytes::from(item.encode(seq));
        self.backlog.push(Sent { seq, bytes });
    }
}

impl Shared {
    pub(super) fn accounts(&self) -> MutexGuard<'_, Accounts> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the stream, and wakes whoever waits for it.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.state());
        self.changed.send_modify(|changes| *changes += 1);
        changed
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.state().refusals.pop_front()
    }

    pub(super) fn page_max(&self) -> usize {
        self.state().page_max.unwrap_or(usize::MAX)
    }

    /// Lets a reader in, unless its cursor is in the future.
    pub(super) fn join(&self, cursor: Option<i64>) -> Option<(Reader<'_>, Start)> {
        self.change(|state| {
            let start = state.backlog.start(cursor, state.rule);
            let (Start::At(place) | Start::Outdated(place)) = start else {
                return None;
            };
            let id = state.readers_ever;
            state.readers_ever += 1;
            state.readers.insert(id, place);
            Some((Reader { shared: self, id }, start))
        })
    }

    async fn wait(&self, is_met: impl Fn(&State) -> bool) {
        let mut changed = self.changes();
        while !is_met(&self.state()) {
            // The sender lives as long as this.
            let _ = changed.changed().await;
        }
    }
}

/// A connected reader; it leaves when this is dropped.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Reader<'_> {
    /// Says that the reader got all messages before `place`.
    pub(super) fn is_at(&self, place: u64) {
        self.shared
            .change(|state| state.readers.insert(self.id, place));
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.shared.change(|state| state.readers.remove(&self.id));
    }
}

impl FakeHost {
    pub(super) fn serve(
        listener: TcpListener,
        pds: Option<usize>,
        accounts: Arc<Mutex<Accounts>>,
    ) -> Self {
        let shared = Arc::new(Shared {
            pds,
            desk: Desk::default(),
            accounts,
            state: Mutex::default(),
            changed: watch::Sender::new(0),
        });
        let server = Server::serve(listener, xrpc::routes(Arc::clone(&shared)));
        Self { shared, server }
    }

    pub(super) fn publish(&self, told: &Told) {
        self.shared.change(|state| state.take(told));
    }

    /// Its URL, `http://…`, as documents name it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// Its URL as a WebSocket's, `ws://…`.
    #[must_use]
    pub fn ws_url(&self) -> String {
        format!("ws://{}", self.server.address())
    }

    /// Lets the source lie from the next message on.
    pub fn plan_stream(&self, plan: Plan<StreamFault>) {
        self.shared.change(|state| state.stream_plan.replace(plan));
    }

    /// How often which lie was told.
    #[must_use]
    pub fn stream_faults(&self) -> BTreeMap<StreamFault, u64> {
        self.shared.state().stream_plan.counts().clone()
    }

    /// Lets connections fail from the next message on that is sent by any.
    pub fn plan_wire(&self, plan: Plan<WireFault>) {
        self.shared.change(|state| state.wire_plan.replace(plan));
    }

    /// How often connections failed in which way.
    #[must_use]
    pub fn wire_faults(&self) -> BTreeMap<WireFault, u64> {
        self.shared.state().wire_plan.counts().clone()
    }

    /// Spoils the answers of an endpoint from the next request on.
    pub fn plan(&self, endpoint: Endpoint, plan: Plan<FetchFault>) {
        self.shared.desk.plan(endpoint, plan);
    }

    /// How often which fault met an endpoint.
    #[must_use]
    pub fn faults(&self, endpoint: Endpoint) -> BTreeMap<FetchFault, u64> {
        self.shared.desk.faults(endpoint)
    }

    /// Refuses the next WebSocket; several refusals queue up.
    pub fn refuse(&self, refusal: Refusal) {
        self.shared
            .change(|state| state.refusals.push_back(refusal));
    }

    /// How many refusals have not met a WebSocket yet.
    #[must_use]
    pub fn refusals_left(&self) -> usize {
        self.shared.state().refusals.len()
    }

    /// Lets the next request of an endpoint wait until the gate is opened.
    #[must_use]
    pub fn hold(&self, endpoint: Endpoint) -> Gate {
        self.shared.desk.hold(endpoint)
    }

    /// How many requests came in.
    #[must_use]
    pub fn requests(&self, endpoint: Endpoint) -> u64 {
        self.shared.desk.requests(endpoint)
    }

    /// How many requests about a DID, a handle or (of `subscribeRepos` and `listRepos`) a cursor came in.
    #[must_use]
    pub fn requests_about(&self, endpoint: Endpoint, about: &str) -> u64 {
        self.shared.desk.requests_about(endpoint, about)
    }

    /// How many requests of an endpoint were being answered at once, at most.
    #[must_use]
    pub fn most_at_once(&self, endpoint: Endpoint) -> u64 {
        self.shared.desk.most_at_once(endpoint)
    }

    /// Waits until so many requests have come in.
    pub async fn wait_for(&self, endpoint: Endpoint, requests: u64) {
        self.shared.desk.wait_for(endpoint, requests).await;
    }

    /// Says what a cursor is taken for.
    pub fn set_cursor_rule(&self, rule: CursorRule) {
        self.shared.change(|state| state.rule = rule);
    }

    /// Tells off readers, once they were up to date, that fall so many messages behind.
    pub fn set_lag_max(&self, messages: u64) {
        self.shared.change(|state| state.lag_max = Some(messages));
    }

    /// Lists no more than so many repositories on a page.
    pub fn set_page_max(&self, repos: usize) {
        self.shared.change(|state| state.page_max = Some(repos));
    }

    /// Forgets all messages but the last `count`.
    pub fn keep_last(&self, count: usize) {
        self.shared.change(|state| state.backlog.keep_last(count));
    }

    /// Forgets all messages and counts from 1 again, as a host does that lost its database.
    pub fn reset_sequence(&self) {
        self.shared.change(|state| state.backlog.reset());
    }

    /// Sends what a fault holds back.
    pub fn release_held(&self) {
        self.shared.change(|state| state.release(|_| true));
    }

    /// Sends a message of the test's own making; `seq` is above [`FakeHost::last_seq`].
    pub fn push(&self, seq: i64, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        self.shared
            .change(|state| state.backlog.push(Sent { seq, bytes }));
    }

    /// The last message's number; 0 before the first.
    #[must_use]
    pub fn last_seq(&self) -> i64 {
        self.shared.state().backlog.last()
    }

    /// How many messages were sent or are to be sent.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.shared.state().backlog.end()
    }

    /// The messages that are kept, as they are sent.
    #[must_use]
    pub fn kept(&self) -> Vec<Bytes> {
        let state = self.shared.state();
        let places = state.backlog.first()..state.backlog.end();
        let kept = places.filter_map(|place| state.backlog.get(place));
        kept.map(|sent| sent.bytes.clone()).collect()
    }

    /// How many readers are connected.
    #[must_use]
    pub fn readers(&self) -> usize {
        self.shared.state().readers.len()
    }

    /// Waits until so many readers are connected.
    pub async fn connected(&self, readers: usize) {
        self.shared
            .wait(|state| state.readers.len() == readers)
            .await;
    }

    /// Waits until somebody is connected and everybody who is was sent all there is.
    pub async fn sent_all(&self) {
        let is_sent = |state: &State| {
            let mut places = state.readers.values();
            !state.readers.is_empty() && places.all(|place| *place == state.backlog.end())
        };
        self.shared.wait(is_sent).await;
    }

    /// Ends all connections and answers no more.
    pub fn stop(&self) {
        self.server.stop();
    }

    /// Answers again, at the same address, with what it kept.
    pub async fn restart(&self) {
        self.server.start().await;
    }
}
