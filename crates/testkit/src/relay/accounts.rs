//! The accounts of a network as it is in truth: their repositories, hosts, handles and states.

use std::collections::{BTreeMap, HashMap};

use atproto::{Did, Handle, Tid};
use serde_json::Value as Json;

use crate::repo::{Account, Network, RepoBuilder};

/// What whoever follows a network should hold of one account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountTruth {
    /// The handle that its document names.
    pub handle: Handle,
    /// The URL of its host.
    pub pds: String,
    /// Why it is not active; none if it is.
    pub status: Option<String>,
    /// The last commit's revision.
    pub rev: Option<Tid>,
    /// Its records by path. They are not to be shown unless it is active.
    pub records: BTreeMap<String, Vec<u8>>,
}

/// Where an account is, and what its host makes of it.
#[derive(Debug, Clone)]
pub(super) struct Hosting {
    /// The place of its host.
    pub(super) pds: usize,
    pub(super) status: Option<String>,
    /// Whether its `#identity` and `#account` have been told.
    pub(super) is_announced: bool,
    /// The repository that its host answers instead of the present one.
    pub(super) frozen_car: Option<Vec<u8>>,
    /// The document that the directory answers instead of the present one.
    pub(super) frozen_document: Option<Json>,
    /// Whether nobody says that its handle is its own.
    pub(super) is_disowned: bool,
}

/// All accounts.
#[derive(Debug)]
pub(super) struct Accounts {
    pub(super) network: Network,
    pub(super) hosting: Vec<Hosting>,
    places: HashMap<Did, usize>,
    /// The hosts' URLs.
    pub(super) pds_urls: Vec<String>,
}

impl Accounts {
    /// The accounts of `network`, hosted in turn.
    pub(super) fn new(network: Network, pds_urls: Vec<String>) -> Self {
        let dids = network.repos().iter().map(|repo| repo.account().did());
        let places = dids.cloned().zip(0..).collect();
        let hosting = (0..network.repos().len()).map(|place| Hosting {
            pds: place % pds_urls.len(),
            status: None,
            is_announced: false,
            frozen_car: None,
            frozen_document: None,
            is_disowned: false,
        });
        Self {
            hosting: hosting.collect(),
            network,
            places,
            pds_urls,
        }
    }

    pub(super) fn place(&self, did: &str) -> Option<usize> {
        let did: Did = did.parse().ok()?;
        self.places.get(&did).copied()
    }

    /// The place of an account that a test names.
    pub(super) fn expect(&self, did: &Did) -> usize {
        *self.places.get(did).expect("an account of this network")
    }

    pub(super) fn repo(&self, place: usize) -> &RepoBuilder {
        &self.network.repos()[place]
    }

    pub(super) fn repo_mut(&mut self, place: usize) -> &mut RepoBuilder {
        &mut self.network.repos_mut()[place]
    }

    pub(super) fn account(&self, place: usize) -> &Account {
        self.repo(place).account()
    }

    pub(super) fn pds_url(&self, place: usize) -> &str {
        &self.pds_urls[self.hosting[place].pds]
    }

    /// The document as it is in truth.
    pub(super) fn document(&self, place: usize) -> Json {
        self.account(place).did_document_at(self.pds_url(place))
    }

    /// The owner of a handle.
    pub(super) fn owner(&self, handle: &str) -> Option<&Did> {
        let places = 0..self.hosting.len();
        let mut owners = places.filter(|place| !self.hosting[*place].is_disowned);
        let owner = owners.find(|place| self.account(*place).handle().as_str() == handle)?;
        Some(self.account(owner).did())
    }

    pub(super) fn truth(&self, place: usize) -> AccountTruth {
        let repo = self.repo(place);
        AccountTruth {
            handle: repo.account().handle().clone(),
            pds: self.pds_url(place).to_owned(),
            status: self.hosting[place].status.clone(),
            rev: repo.rev(),
            records: repo.records().clone(),
        }
    }
}
