//! What has to be fetched again, handed from whoever finds it to whoever fetches it.
//!
//! A mark is in the log, as a notice of kind resync at step 0, before it is handed over: so handing over may fail.
//! Then the other end ([`Resyncer`]) is told to read its work from the bucket.

mod attempt;
mod hosts;
mod progress;
mod reconcile;
mod schedule;
mod stored;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use atproto::{Did, Tid};
use crdt::{NoticeChange, NoticeKind};
use tokio::sync::mpsc;

pub use hosts::is_pds;
pub use schedule::Pace;
pub use worker::{ResyncSettings, ResyncSource, Resyncer};

/// How long a host is left alone that asks for it and does not say for how long, and how long at most.
const PARKED: Duration = Duration::from_secs(30);
const PARKED_MAX: Duration = Duration::from_secs(3600);

/// A repo that has to be fetched from its host: a notice of kind resync that is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The source whose frames showed it, as its notices name it.
    pub source: Arc<str>,
    /// The repo.
    pub did: Did,
    /// The rev that showed it: what is fetched must not be older.
    pub rev: Option<Tid>,
    /// The source's sequence number.
    pub seq: Option<i64>,
    /// The hash in the notice's key.
    pub frame_hash: [u8; 16],
    /// Why.
    pub reason: String,
}

/// A source whose list of repos has to be compared with what the bucket holds of it: a notice of kind resync about no
/// repo, which is durable. Its steps are those of a mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reconcile {
    /// The source, by the URL it was given.
    pub source: Arc<str>,
    /// The hash in the notice's key.
    pub frame_hash: [u8; 16],
    /// Why: `outdated_cursor`, `cursor_reset` or `first_start`.
    pub reason: String,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// One repo has to be fetched.
    Mark(Mark),
    /// What a source lists has to be compared.
    Reconcile(Reconcile),
}

impl Task {
    /// What a notice asks for; none if it is of another kind, or not the first step.
    #[must_use]
    pub fn of(notice: &NoticeChange) -> Option<Self> {
        if notice.kind != NoticeKind::Resync || (notice.attempt, notice.step) != (0, 0) {
            return None;
        }
        let source = Arc::clone(&notice.source);
        let (frame_hash, reason) = (notice.frame_hash, notice.reason.clone());
        Some(match notice.did.clone() {
            Some(did) => Self::Mark(Mark {
                source,
                did,
                rev: notice.rev,
                seq: notice.seq,
                frame_hash,
                reason,
            }),
            None => Self::Reconcile(Reconcile {
                source,
                frame_hash,
                reason,
            }),
        })
    }
}

/// Where what is to be done is handed over. Cheap to clone; handing over never waits.
#[derive(Clone, Debug)]
pub struct ResyncQueue {
    tasks: mpsc::Sender<Task>,
    overflowed: Arc<AtomicBool>,
}

impl ResyncQueue {
    /// A queue of at most `tasks_max`, and its other end.
    #[must_use]
    pub fn bounded(tasks_max: usize) -> (Self, ResyncTasks) {
        let (tasks, taken) = mpsc::channel(tasks_max);
        let overflowed = Arc::new(AtomicBool::new(false));
        let queue = Self {
            tasks,
            overflowed: Arc::clone(&overflowed),
        };
        let tasks = ResyncTasks {
            tasks: taken,
            overflowed,
        };
        (queue, tasks)
    }

    /// Hands over what is durable in the log. What does not fit is found in the bucket.
    pub fn push(&self, task: Task) {
        if self.tasks.try_send(task).is_err() {
            self.overflowed.store(true, Ordering::SeqCst);
        }
    }

    /// Hands over a mark, as [`push`](Self::push) does.
    pub fn mark(&self, mark: Mark) {
        self.push(Task::Mark(mark));
    }
}

/// The other end of a [`ResyncQueue`].
#[derive(Debug)]
pub struct ResyncTasks {
    tasks: mpsc::Receiver<Task>,
    overflowed: Arc<AtomicBool>,
}

impl ResyncTasks {
    /// The next task; none once every queue is dropped.
    pub async fn recv(&mut self) -> Option<Task> {
        self.tasks.recv().await
    }

    /// Whether something did not fit since this was asked last: then the bucket has to be read.
    pub fn take_overflow(&self) -> bool {
        self.overflowed.swap(false, Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_does_not_fit_is_told_once() {
        let (queue, mut tasks) = ResyncQueue::bounded(1);
        queue.mark(mark(1));
        assert!(!tasks.take_overflow());
        queue.mark(mark(2));
        assert_eq!(tasks.recv().await, Some(Task::Mark(mark(1))));
        assert!(tasks.take_overflow());
        assert!(!tasks.take_overflow());
        drop(queue);
        assert_eq!(tasks.recv().await, None);
    }

    #[test]
    fn a_first_notice_asks_and_a_later_one_tells() {
        let mark = mark(1);
        let mut notice = NoticeChange {
            kind: NoticeKind::Resync,
            reason: mark.reason.clone(),
            source: Arc::clone(&mark.source),
            did: Some(mark.did.clone()),
            rev: mark.rev,
            seq: mark.seq,
            frame_hash: mark.frame_hash,
            bytes: 5,
            attempt: 0,
            step: 0,
            indexed_at: crdt::Micros(7),
        };
        assert_eq!(Task::of(&notice), Some(Task::Mark(mark)));
        notice.did = None;
        assert!(matches!(Task::of(&notice), Some(Task::Reconcile(_))));
        notice.attempt = 1;
        assert_eq!(Task::of(&notice), None);
    }

    fn mark(seq: i64) -> Mark {
        Mark {
            source: "wss://relay.example".into(),
            did: "did:web:a.example".parse().expect("a DID"),
            rev: None,
            seq: Some(seq),
            frame_hash: [0; 16],
            reason: "since_mismatch".to_owned(),
        }
    }
}
