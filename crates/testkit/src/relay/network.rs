//! Accounts, the hosts that they are on, the relays that pass on what hosts tell, and the directory: the honest model.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use atproto::{Did, Frame, Handle};

use super::accounts::{AccountTruth, Accounts};
use super::directory::FakeDirectory;
use super::distort::Told;
use super::host::FakeHost;
use super::server::Server;
use crate::repo::{Curve, Network, NetworkConfig, Write};

/// What a [`FakeNetwork`] is like.
#[derive(Debug, Clone)]
pub struct FakeNetworkConfig {
    /// The accounts and what they write. `other_per_mille` is taken to be 0: see [`FakeNetwork::set_status`] and others.
    ///
    /// What is in the future for [`Forgery::RevInFuture`](crate::repo::Forgery::RevInFuture) is so only for a reader whose
    /// clock stands near `start_us`.
    pub accounts: NetworkConfig,
    /// How many hosts the accounts are spread over.
    pub pdses: usize,
    /// How many relays pass on what all hosts tell.
    pub relays: usize,
}

impl Default for FakeNetworkConfig {
    fn default() -> Self {
        Self {
            accounts: NetworkConfig {
                accounts: 10,
                odd_per_mille: 0,
                ..NetworkConfig::default()
            },
            pdses: 1,
            relays: 1,
        }
    }
}

/// A network of accounts on loopback; dropping it ends it.
///
/// Whatever an account does is told by its host and by each relay, under numbers of their own.
#[derive(Debug)]
pub struct FakeNetwork {
    accounts: Arc<Mutex<Accounts>>,
    directory: FakeDirectory,
    pdses: Vec<FakeHost>,
    relays: Vec<FakeHost>,
}

impl FakeNetwork {
    /// Starts the servers; no account has written anything yet.
    pub async fn start(config: FakeNetworkConfig) -> Self {
        assert!(config.pdses > 0, "accounts are on a host");
        let network = Network::new(NetworkConfig {
            other_per_mille: 0,
            ..config.accounts
        });
        let mut listeners = Vec::new();
        for _ in 0..config.pdses {
            listeners.push(Server::listen().await);
        }
        let urls = listeners.iter().map(|listener| {
            let address = listener.local_addr().expect("an address");
            format!("http://{address}")
        });
        let accounts = Arc::new(Mutex::new(Accounts::new(network, urls.collect())));
        let mut pdses = Vec::new();
        for (place, listener) in listeners.into_iter().enumerate() {
            let accounts = Arc::clone(&accounts);
            pdses.push(FakeHost::serve(listener, Some(place), accounts));
        }
        let mut relays = Vec::new();
        for _ in 0..config.relays {
            let accounts = Arc::clone(&accounts);
            relays.push(FakeHost::serve(Server::listen().await, None, accounts));
        }
        Self {
            directory: FakeDirectory::start(Arc::clone(&accounts)).await,
            accounts,
            pdses,
            relays,
        }
    }

    /// The directory of documents.
    #[must_use]
    pub fn directory(&self) -> &FakeDirectory {
        &self.directory
    }

    /// One of the hosts.
    #[must_use]
    pub fn pds(&self, place: usize) -> &FakeHost {
        &self.pdses[place]
    }

    /// One of the relays.
    #[must_use]
    pub fn relay(&self, place: usize) -> &FakeHost {
        &self.relays[place]
    }

    /// All accounts, in an order that stays.
    #[must_use]
    pub fn dids(&self) -> Vec<Did> {
        let accounts = self.accounts();
        let repos = accounts.network.repos().iter();
        repos.map(|repo| repo.account().did().clone()).collect()
    }

    /// What whoever follows the network should hold in the end.
    #[must_use]
    pub fn truth(&self) -> BTreeMap<Did, AccountTruth> {
        let accounts = self.accounts();
        let places = 0..accounts.hosting.len();
        let truth = places.map(|place| {
            let did = accounts.account(place).did().clone();
            (did, accounts.truth(place))
        });
        truth.collect()
    }

    /// The documents of all accounts as they are now, by DID.
    #[must_use]
    pub fn did_documents(&self) -> BTreeMap<String, serde_json::Value> {
        let accounts = self.accounts();
        let places = 0..accounts.hosting.len();
        let documents = places.map(|place| {
            let did = accounts.account(place).did().to_string();
            (did, accounts.document(place))
        });
        documents.collect()
    }

    /// Lets accounts write so many commits, who and what as the seed has it. An account's first is announced by
    /// `#identity` and `#account`.
    pub fn run(&self, commits: usize) {
        let mut accounts = self.accounts();
        for _ in 0..commits {
            let message = accounts.network.message();
            let Frame::Commit(frame) = message.frame else {
                panic!("this network writes commits only");
            };
            let place = accounts.expect(&frame.repo);
            self.announce(&mut accounts, place);
            self.tell(&accounts, place, Frame::Commit(frame));
        }
    }

    /// Commits `writes` to an active account; none are a commit without operations.
    pub fn commit(&self, did: &Did, writes: &[Write]) {
        let mut accounts = self.accounts();
        let place = accounts.expect(did);
        let status = &accounts.hosting[place].status;
        assert_eq!(
            *status, None,
            "an account that is not active writes nothing"
        );
        self.announce(&mut accounts, place);
        self.commit_at(&mut accounts, place, writes);
    }

    /// Tells `#sync` of an account.
    pub fn sync(&self, did: &Did) {
        let mut accounts = self.accounts();
        let place = accounts.expect(did);
        self.tell_sync(&mut accounts, place);
    }

    /// Tells `#identity` of an account.
    pub fn identity(&self, did: &Did) {
        let mut accounts = self.accounts();
        let place = accounts.expect(did);
        self.tell_identity(&mut accounts, place);
    }

    /// Gives an account another key: its document changes, `#identity` tells, and its next commit is signed with it.
    ///
    /// Until then its repository is signed by a key that its document does not have any more.
    pub fn rotate(&self, did: &Did, seed: u64, curve: Curve) {
        let mut accounts = self.accounts();
        let place = accounts.expect(did);
        let account = accounts.account(place).with_key_of(seed, curve);
        accounts.repo_mut(place).rotate(account);
        self.tell_identity(&mut accounts, place);
    }

    /// Gives an account another handle: its document changes and `#identity` tells.
    pub fn rename(&self, did: &Did, handle: &Handle) {
        let mut accounts = self.accounts();
        let place = accounts.expect(did);
        let account = accounts.account(place).with_handle(handle.clone());
        accounts.repo_mut(place).rotate(account);
        self.tell_identity(&mut accounts, place);
    }

    /// Lets an account's handle resolve to nobody, or to it again. Nothing tells.
    pub fn disown_handle(&self, did: &Did, is_disowned: bool) {
        let mut accounts = self.accounts();
        let place = accounts.expect(did);
        accounts.hosting[place].is_disowned = is_disowned;
    }

    /// Changes an account's state, such as `deactivated` or `deleted`, or makes it active; `#account` tells.
    ///
    /// Who becomes active is told by `#identity` and `#sync` too. Who is not active writes nothing.
    pub fn set_status(&self, did: &Did, status: Option<&str>) {
        let mut accounts = self.accounts();
        let place = accounts.expect(did);
        accounts.hosting[place].status = status.map(str::to_owned);
        accounts.network.silence(place, status.is_some());
        self.tell_account(&mut accounts, place);
        if status.is_none() {
            self.tell_identity(&mut accounts, place);
            if accounts.repo(place).rev().is_some() {
                self.tell_sync(&mut accounts, place);
            }
        }
    }

    /// Moves an active account to another host, which signs with a key of `seed`.
    ///
    /// The document changes; the new host and the relays tell `#identity`, `#account`, a commit without operations and
    /// `#sync`; the old host tells that the account is deactivated there.
    pub fn migrate(&self, did: &Did, pds: usize, seed: u64) {
        let mut accounts = self.accounts();
        let place = accounts.expect(did);
        let old = std::mem::replace(&mut accounts.hosting[place].pds, pds);
        assert_ne!(old, pds, "it moves to another host");
        let account = accounts.account(place).with_key_of(seed, Curve::K256);
        accounts.repo_mut(place).rotate(account);
        self.tell_identity(&mut accounts, place);
        self.tell_account(&mut accounts, place);
        self.commit_at(&mut accounts, place, &[]);
        self.tell_sync(&mut accounts, place);
        let stamp = accounts.network.stamp();
        let repo = accounts.repo(place);
        let told = told(
            &accounts,
            place,
            Frame::Account(repo.account_status(stamp, Some("deactivated"))),
        );
        self.pdses[old].publish(&told);
    }

    /// Lets an account's host answer its repository as it is now, whatever is committed, until it is thawed.
    pub fn freeze_repo(&self, did: &Did) {
        let mut accounts = self.accounts();
        let place = accounts.expect(did);
        let car = accounts.repo_mut(place).car();
        accounts.hosting[place].frozen_car = Some(car);
    }

    /// Lets an account's host answer its repository as it is.
    pub fn thaw_repo(&self, did: &Did) {
        let mut accounts = self.accounts();
        let place = accounts.expect(did);
        accounts.hosting[place].frozen_car = None;
    }

    /// Lets the directory answer an account's document as it is now, whatever changes, until it is thawed.
    pub fn freeze_document(&self, did: &Did) {
        let mut accounts = self.accounts();
        let place = accounts.expect(did);
        let document = accounts.document(place);
        accounts.hosting[place].frozen_document = Some(document);
    }

    /// Lets the directory answer an account's document as it is.
    pub fn thaw_document(&self, did: &Did) {
        let mut accounts = self.accounts();
        let place = accounts.expect(did);
        accounts.hosting[place].frozen_document = None;
    }

    fn accounts(&self) -> MutexGuard<'_, Accounts> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn announce(&self, accounts: &mut Accounts, place: usize) {
        if !std::mem::replace(&mut accounts.hosting[place].is_announced, true) {
            self.tell_identity(accounts, place);
            self.tell_account(accounts, place);
        }
    }

    fn commit_at(&self, accounts: &mut Accounts, place: usize, writes: &[Write]) {
        let stamp = accounts.network.stamp();
        let frame = accounts.repo_mut(place).commit(stamp, writes);
        self.tell(accounts, place, Frame::Commit(frame));
    }

    fn tell_identity(&self, accounts: &mut Accounts, place: usize) {
        let stamp = accounts.network.stamp();
        let frame = accounts.repo(place).identity(stamp);
        self.tell(accounts, place, Frame::Identity(frame));
    }

    fn tell_account(&self, accounts: &mut Accounts, place: usize) {
        let stamp = accounts.network.stamp();
        let status = accounts.hosting[place].status.as_deref();
        let frame = accounts.repo(place).account_status(stamp, status);
        self.tell(accounts, place, Frame::Account(frame));
    }

    fn tell_sync(&self, accounts: &mut Accounts, place: usize) {
        let stamp = accounts.network.stamp();
        let frame = accounts.repo(place).sync(stamp);
        self.tell(accounts, place, Frame::Sync(frame));
    }

    /// Lets an account's host and all relays tell a message.
    fn tell(&self, accounts: &Accounts, place: usize, frame: Frame) {
        let told = told(accounts, place, frame);
        self.pdses[accounts.hosting[place].pds].publish(&told);
        self.relays.iter().for_each(|relay| relay.publish(&told));
    }
}

fn told(accounts: &Accounts, place: usize, frame: Frame) -> Told {
    let repo = accounts.repo(place);
    let at = crate::repo::Stamp { seq: 1, at_us: 0 };
    let time = match &frame {
        Frame::Commit(frame) => frame.time.clone(),
        Frame::Sync(frame) => frame.time.clone(),
        Frame::Identity(frame) => frame.time.clone(),
        Frame::Account(frame) => frame.time.clone(),
        _ => String::new(),
    };
    let state = repo.rev().map(|_| {
        let mut sync = repo.sync(at);
        sync.time = time;
        sync
    });
    Told {
        frame,
        account: repo.account().clone(),
        state,
    }
}
