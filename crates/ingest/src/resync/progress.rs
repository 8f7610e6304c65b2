//! A mark's way from step to step, as the notices that tell it.
//!
//! All notices of a mark have one key, and of them the highest (attempt, step) is its state: so progress may be written
//! twice, late, or by two processes at once. A failure is told behind the mark's reason: `since_mismatch/behind`.

use std::sync::Arc;

use crdt::{Change, Micros, NoticeChange, NoticeKind, ResyncStep};

use super::Task;

/// What stands between a mark's reason and that of its last failure.
const BEHIND_REASON: char = '/';

/// Something to do, and how far it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Open {
    /// What is to be done.
    pub(crate) task: Task,
    /// The last attempt that was begun; 0 for none.
    pub(crate) attempt: u32,
    /// How far it came.
    pub(crate) step: ResyncStep,
    /// When it came there.
    pub(crate) at: Micros,
}

impl Open {
    /// A task of which nothing was done.
    pub(crate) fn new(task: Task, at: Micros) -> Self {
        Self {
            task,
            attempt: 0,
            step: ResyncStep::Waiting,
            at,
        }
    }

    /// The task of a notice in the bucket; none if it is done, or of another kind.
    pub(crate) fn of(notice: NoticeChange) -> Option<Self> {
        let step = ResyncStep::of(notice.step).filter(|step| !step.is_final())?;
        let (attempt, at) = (notice.attempt, notice.indexed_at);
        let (reason, _) = split(&notice.reason);
        let first = NoticeChange {
            reason: reason.to_owned(),
            attempt: 0,
            step: 0,
            ..notice
        };
        let task = Task::of(&first)?;
        Some(Self {
            task,
            attempt,
            step,
            at,
        })
    }

    /// Whether two speak of one mark.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (&self.task, &other.task) {
            (Task::Mark(a), Task::Mark(b)) => {
                (&a.source, &a.did, a.rev, a.frame_hash) == (&b.source, &b.did, b.rev, b.frame_hash)
            }
            (Task::Reconcile(a), Task::Reconcile(b)) => {
                (&a.source, a.frame_hash) == (&b.source, b.frame_hash)
            }
            _ => false,
        }
    }

    /// The notice that says how far `attempt` came, with why it failed.
    pub(crate) fn told(
        &self,
        attempt: u32,
        step: ResyncStep,
        failure: Option<&str>,
        at: Micros,
    ) -> Change {
        let (source, reason, frame_hash) = match &self.task {
            Task::Mark(mark) => (&mark.source, &mark.reason, mark.frame_hash),
            Task::Reconcile(reconcile) => {
                (&reconcile.source, &reconcile.reason, reconcile.frame_hash)
            }
        };
        let mark = match &self.task {
            Task::Mark(mark) => Some(mark),
            Task::Reconcile(_) => None,
        };
        let reason = match failure {
            Some(failure) => format!("{reason}{BEHIND_REASON}{failure}"),
            None => reason.clone(),
        };
        Change::Notice(NoticeChange {
            kind: NoticeKind::Resync,
            reason,
            source: Arc::clone(source),
            did: mark.map(|mark| mark.did.clone()),
            rev: mark.and_then(|mark| mark.rev),
            seq: mark.and_then(|mark| mark.seq),
            frame_hash,
            bytes: 0,
            attempt,
            step: step.number(),
            indexed_at: at,
        })
    }
}

/// A mark's reason and that of its last failure.
fn split(reason: &str) -> (&str, Option<&str>) {
    match reason.split_once(BEHIND_REASON) {
        Some((reason, failure)) => (reason, Some(failure)),
        None => (reason, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resync::Mark;

    #[test]
    fn a_failure_stands_behind_the_reason_and_is_not_kept() {
        let open = Open::new(task(), Micros(1));
        let Change::Notice(told) = open.told(2, ResyncStep::Failed, Some("behind"), Micros(5))
        else {
            panic!("a notice");
        };
        assert_eq!(told.reason, "sync/behind");
        let read = Open::of(told).expect("not done");
        assert_eq!(
            (read.attempt, read.step, read.at),
            (2, ResyncStep::Failed, Micros(5))
        );
        assert_eq!(read.task, task());
        assert!(read.is_same(&open));
        let Change::Notice(again) = read.told(3, ResyncStep::Fetching, None, Micros(6)) else {
            panic!("a notice");
        };
        assert_eq!(again.reason, "sync");
    }

    #[test]
    fn what_is_done_is_not_open() {
        for step in ResyncStep::ALL {
            let Change::Notice(told) = Open::new(task(), Micros(1)).told(1, step, None, Micros(5))
            else {
                panic!("a notice");
            };
            assert_eq!(Open::of(told).is_none(), step.is_final());
        }
    }

    fn task() -> Task {
        Task::Mark(Mark {
            source: "wss://relay.example".into(),
            did: "did:web:a.example".parse().expect("a DID"),
            rev: None,
            seq: Some(7),
            frame_hash: [1; 16],
            reason: "sync".to_owned(),
        })
    }
}
