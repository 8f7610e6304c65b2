//! What a lie makes of a message: other messages, or another place.

use atproto::{CommitFrame, Did, Frame, Map, SyncFrame, Tid, Value};

use super::fault::StreamFault;
use crate::repo::{
    Account, Curve, Forgery, RepoBuilder, Stamp, Write, encode_account, encode_commit,
    encode_frame, encode_identity, encode_sync,
};

/// A message as its honest host tells it.
#[derive(Debug, Clone)]
pub(super) struct Told {
    pub(super) frame: Frame,
    /// Who signs for the repository.
    pub(super) account: Account,
    /// The repository's state after it; none before its first commit.
    pub(super) state: Option<SyncFrame>,
}

impl Told {
    pub(super) fn did(&self) -> &Did {
        self.account.did()
    }
}

/// A message that has no number yet.
#[derive(Debug, Clone)]
pub(super) enum Item {
    Frame(Box<Frame>),
    /// Of a kind that nobody knows.
    Novelty,
}

impl From<Frame> for Item {
    fn from(frame: Frame) -> Self {
        Self::Frame(Box::new(frame))
    }
}

impl Item {
    /// The bytes under a number.
    pub(super) fn encode(self, seq: i64) -> Vec<u8> {
        let frame = match self {
            Self::Frame(frame) => *frame,
            Self::Novelty => {
                let payload: Map = [("seq", Value::from(seq)), ("what", Value::from("?"))]
                    .into_iter()
                    .collect();
                return encode_frame("#novelty", payload);
            }
        };
        match frame {
            Frame::Commit(frame) => encode_commit(&CommitFrame { seq, ..frame }),
            Frame::Sync(frame) => encode_sync(&SyncFrame { seq, ..frame }),
            Frame::Identity(mut frame) => {
                frame.seq = seq;
                encode_identity(&frame)
            }
            Frame::Account(mut frame) => {
                frame.seq = seq;
                encode_account(&frame)
            }
            Frame::Info { .. } | Frame::Error { .. } | Frame::Unknown { .. } => {
                panic!("hosts of accounts tell no such messages")
            }
        }
    }
}

/// What becomes of a message.
#[derive(Debug)]
pub(super) enum Effect {
    /// These come instead of it.
    Items(Vec<Item>),
    /// It comes behind so many messages of other accounts.
    Hold(u16),
    /// It comes behind the next message of its account.
    Swap,
}

/// Applies a fault; none if it makes no sense here. `before` is the state that an earlier commit made.
pub(super) fn distort(
    fault: StreamFault,
    told: &Told,
    before: Option<&SyncFrame>,
) -> Option<Effect> {
    let honest = || Item::from(told.frame.clone());
    let sync = |sync: &SyncFrame| Item::from(Frame::Sync(sync.clone()));
    let items = match fault {
        StreamFault::Drop => Vec::new(),
        StreamFault::Again => vec![honest(), honest()],
        StreamFault::Hold(messages) => return Some(Effect::Hold(messages)),
        StreamFault::Swap => {
            commit(told)?;
            return Some(Effect::Swap);
        }
        StreamFault::Forge(forgery) => vec![forged(forgery, told)?, honest()],
        StreamFault::Replace(forgery) => vec![forged(forgery, told)?],
        StreamFault::Since => vec![changed(told, |frame| {
            let since = frame.since.map_or(1, Tid::value);
            frame.since = Some(Tid::from_value(since - 1));
        })?],
        StreamFault::NoPrevData => vec![changed(told, |frame| frame.prev_data = None)?],
        StreamFault::Sync => {
            commit(told)?;
            vec![honest(), sync(told.state.as_ref()?)]
        }
        StreamFault::SyncInstead => {
            commit(told)?;
            vec![sync(told.state.as_ref()?)]
        }
        StreamFault::SyncOld => vec![sync(before?), honest()],
        StreamFault::SyncForged => {
            let mut forged = told.state.clone()?;
            forged.rev = Tid::from_value(forged.rev.value() + 1);
            vec![sync(&forged), honest()]
        }
        StreamFault::Flood(count) => flood(count, told),
        StreamFault::Strangers(count) => {
            let mut items = strangers(count, told);
            items.push(honest());
            items
        }
        StreamFault::Novelty => vec![Item::Novelty, honest()],
        StreamFault::Time => {
            let mut frame = told.frame.clone();
            let time = match &mut frame {
                Frame::Commit(_) => return None,
                Frame::Sync(frame) => &mut frame.time,
                Frame::Identity(frame) => &mut frame.time,
                Frame::Account(frame) => &mut frame.time,
                _ => return None,
            };
            *time = "yesterday".to_owned();
            vec![frame.into()]
        }
    };
    Some(Effect::Items(items))
}

fn commit(told: &Told) -> Option<&CommitFrame> {
    match &told.frame {
        Frame::Commit(frame) => Some(frame),
        _ => None,
    }
}

fn forged(forgery: Forgery, told: &Told) -> Option<Item> {
    let forged = forgery.of(commit(told)?, &told.account)?;
    Some(Frame::Commit(forged).into())
}

fn changed(told: &Told, change: impl FnOnce(&mut CommitFrame)) -> Option<Item> {
    let mut frame = commit(told)?.clone();
    change(&mut frame);
    Some(Frame::Commit(frame).into())
}

fn flood(count: u16, told: &Told) -> Vec<Item> {
    let time = match &told.frame {
        Frame::Commit(frame) => &frame.time,
        Frame::Sync(frame) => &frame.time,
        Frame::Identity(frame) => &frame.time,
        Frame::Account(frame) => &frame.time,
        _ => return Vec::new(),
    };
    let identity = atproto::IdentityFrame {
        seq: 1,
        did: told.did().clone(),
        time: time.clone(),
        handle: Some(told.account.handle().clone()),
    };
    let mut items = vec![Item::from(told.frame.clone())];
    for _ in 0..count {
        items.push(Frame::Identity(identity.clone()).into());
        items.push(told.frame.clone().into());
    }
    items
}

fn strangers(count: u16, told: &Told) -> Vec<Item> {
    // Away from the seeds of any network's accounts, and others for each message.
    let base = u64::MAX
        - told
            .state
            .as_ref()
            .map_or(0, |state| state.rev.value() >> 1);
    let at_us = told.state.as_ref().map_or(0, |state| state.rev.micros());
    let record = Value::Map([("text", Value::from("hello"))].into_iter().collect());
    let write = [Write::put("app.bsky.feed.post/stranger", &record)];
    (0..u64::from(count))
        .map(|number| {
            let account = Account::new(base.wrapping_sub(number), Curve::K256);
            let stamp = Stamp { seq: 1, at_us };
            let commit = RepoBuilder::new(account).commit(stamp, &write);
            Frame::Commit(commit).into()
        })
        .collect()
}
