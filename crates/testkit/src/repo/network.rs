//! A network of accounts that post, like, follow and delete, as one relay would send it.

use std::collections::{BTreeMap, BTreeSet};

use atproto::{Cid, Frame, cbor};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::encode::{encode_account, encode_commit, encode_identity, encode_sync};
use super::oddity::Oddity;
use super::record::{Kind, Made, RecordMaker};
use super::{Account, Curve, RepoBuilder, Stamp, Write};

/// What a [`Network`] is like.
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    /// The same seed gives the same network.
    pub seed: u64,
    /// How many accounts there are.
    pub accounts: usize,
    /// The first message's number.
    pub seq_first: i64,
    /// The first message's time, in µs since the epoch.
    pub start_us: i64,
    /// How many µs pass between two messages, about.
    pub step_us: i64,
    /// How many of 1,000 records have an [`Oddity`].
    pub odd_per_mille: u32,
    /// How many of 1,000 messages are no commits.
    pub other_per_mille: u32,
    /// How many of 1,000 accounts have a P-256 key.
    pub p256_per_mille: u32,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self {
            seed: 1,
            accounts: 100,
            seq_first: 1,
            start_us: 1_750_000_000_000_000,
            step_us: 1_500,
            odd_per_mille: 10,
            other_per_mille: 5,
            p256_per_mille: 20,
        }
    }
}

/// One message of the stream, decoded and as bytes.
#[derive(Debug, Clone)]
pub struct Message {
    /// The message.
    pub frame: Frame,
    /// The same as it is sent.
    pub bytes: Vec<u8>,
    /// What is odd about each of the commit's records, in the order of its operations.
    pub oddities: Vec<Option<Oddity>>,
}

/// An endless stream of messages, and the repositories behind it.
#[derive(Debug)]
pub struct Network {
    config: NetworkConfig,
    random: StdRng,
    repos: Vec<RepoBuilder>,
    maker: RecordMaker,
    /// Accounts that write nothing, by their place in `repos`.
    silent: BTreeSet<usize>,
    seq: i64,
    at_us: i64,
}

impl Network {
    /// Makes the network; its accounts have no records yet.
    #[must_use]
    pub fn new(config: NetworkConfig) -> Self {
        assert!(config.accounts > 0, "a network has accounts");
        let repos: Vec<RepoBuilder> = (0..config.accounts as u64)
            .map(|index| {
                let p256 = index * u64::from(config.p256_per_mille) % 1000
                    + u64::from(config.p256_per_mille)
                    >= 1000;
                let curve = if p256 { Curve::P256 } else { Curve::K256 };
                RepoBuilder::new(Account::new(config.seed << 32 | index, curve))
            })
            .collect();
        let dids = repos
            .iter()
            .map(|repo| repo.account().did().to_string())
            .collect();
        Self {
            random: StdRng::seed_from_u64(config.seed),
            repos,
            maker: RecordMaker::new(dids),
            silent: BTreeSet::new(),
            seq: config.seq_first,
            at_us: config.start_us,
            config,
        }
    }

    /// Returns the repositories as they are after the messages so far.
    #[must_use]
    pub fn repos(&self) -> &[RepoBuilder] {
        &self.repos
    }

    /// Returns the repositories to export or change.
    pub fn repos_mut(&mut self) -> &mut [RepoBuilder] {
        &mut self.repos
    }

    /// Returns the DID documents by DID.
    #[must_use]
    pub fn did_documents(&self) -> BTreeMap<String, serde_json::Value> {
        let account = |repo: &RepoBuilder| {
            (
                repo.account().did().to_string(),
                repo.account().did_document(),
            )
        };
        self.repos.iter().map(account).collect()
    }

    /// Lets the account at `index` of [`Network::repos`] write nothing, or write again.
    pub fn silence(&mut self, index: usize, is_silent: bool) {
        if is_silent {
            self.silent.insert(index);
        } else {
            self.silent.remove(&index);
        }
    }

    /// Returns the next message's stamp and lets time pass.
    pub fn stamp(&mut self) -> Stamp {
        let stamp = Stamp {
            seq: self.seq,
            at_us: self.at_us,
        };
        // Sequence numbers have gaps.
        self.seq += if self.random.random_bool(0.02) {
            self.random.random_range(2..5)
        } else {
            1
        };
        self.at_us += self.random.random_range(1..=2 * self.config.step_us);
        stamp
    }

    /// Returns the next message.
    ///
    /// # Panics
    /// If all accounts are silent.
    pub fn message(&mut self) -> Message {
        let stamp = self.stamp();
        // Some accounts write far more than others.
        let uniform: f64 = self.random.random();
        let who = ((uniform.powi(2) * self.repos.len() as f64) as usize).min(self.repos.len() - 1);
        let who = (who..self.repos.len())
            .chain(0..who)
            .find(|who| !self.silent.contains(who))
            .expect("an account that writes");
        if self.repos[who].rev().is_some()
            && self.random.random_ratio(self.config.other_per_mille, 1000)
        {
            return self.other(who, stamp);
        }
        let planned = if self.repos[who].rev().is_none() {
            let profile = self
                .maker
                .make(Kind::Profile, stamp.at_us, &mut self.random);
            vec![Planned::put(profile, None)]
        } else {
            self.plan(who, stamp)
        };
        let repo = &mut self.repos[who];
        let did = repo.account().did().to_string();
        let writes: Vec<Write> = planned
            .iter()
            .map(|planned| planned.write.clone())
            .collect();
        let frame = repo.commit(stamp, &writes);
        for made in planned.iter().filter_map(|planned| planned.made.as_ref()) {
            self.maker
                .remember(&did, made, Cid::of_cbor(&cbor::encode(&made.record)));
        }
        let bytes = encode_commit(&frame);
        let oddities = planned.iter().map(|planned| planned.oddity).collect();
        Message {
            frame: Frame::Commit(frame),
            bytes,
            oddities,
        }
    }

    fn other(&mut self, who: usize, stamp: Stamp) -> Message {
        let repo = &self.repos[who];
        let (frame, bytes) = match self.random.random_range(0..4) {
            0 => {
                let frame = repo.sync(stamp);
                let bytes = encode_sync(&frame);
                (Frame::Sync(frame), bytes)
            }
            1 => {
                let frame = repo.identity(stamp);
                let bytes = encode_identity(&frame);
                (Frame::Identity(frame), bytes)
            }
            status => {
                let frame = repo.account_status(stamp, [Some("deactivated"), None][status - 2]);
                let bytes = encode_account(&frame);
                (Frame::Account(frame), bytes)
            }
        };
        Message {
            frame,
            bytes,
            oddities: Vec::new(),
        }
    }

    /// Plans the next writes of an account: mostly one, sometimes several, never two of one path.
    fn plan(&mut self, who: usize, stamp: Stamp) -> Vec<Planned> {
        let several = self.random.random_bool(0.05);
        let count = if several {
            self.random.random_range(2..6)
        } else {
            1
        };
        let mut planned: BTreeMap<String, Planned> = BTreeMap::new();
        for _ in 0..count {
            let records = self.repos[who].records();
            if self.random.random_bool(0.08) && records.len() > 1 {
                let at = self.random.random_range(0..records.len());
                if let Some(path) = records.keys().nth(at) {
                    planned.insert(path.clone(), Planned::delete(path));
                }
                continue;
            }
            let odd = self.random.random_ratio(self.config.odd_per_mille, 1000);
            let oddity = odd.then(|| Oddity::ALL[self.random.random_range(0..Oddity::ALL.len())]);
            let made = match oddity {
                Some(oddity) => self.maker.odd(oddity, stamp.at_us, &mut self.random),
                None => self
                    .maker
                    .make(kind(&mut self.random), stamp.at_us, &mut self.random),
            };
            planned.insert(made.path(), Planned::put(made, oddity));
        }
        planned.into_values().collect()
    }
}

/// A write that is about to be committed.
struct Planned {
    write: Write,
    made: Option<Made>,
    oddity: Option<Oddity>,
}

impl Planned {
    fn put(made: Made, oddity: Option<Oddity>) -> Self {
        Self {
            write: Write::put(made.path(), &made.record),
            made: Some(made),
            oddity,
        }
    }

    fn delete(path: &str) -> Self {
        Self {
            write: Write::delete(path),
            made: None,
            oddity: None,
        }
    }
}

impl Iterator for Network {
    type Item = Message;

    /// Never ends.
    fn next(&mut self) -> Option<Message> {
        Some(self.message())
    }
}

/// Returns a kind as often as it is written: about as in a day of the network.
fn kind(random: &mut StdRng) -> Kind {
    match random.random_range(0..1000) {
        0..560 => Kind::Like,
        560..720 => Kind::Post,
        720..850 => Kind::Follow,
        850..950 => Kind::Repost,
        950..975 => Kind::Block,
        975..985 => Kind::Profile,
        985..990 => Kind::ListItem,
        990..994 => Kind::List,
        994..998 => Kind::Threadgate,
        _ => Kind::ChatDeclaration,
    }
}
