//! The messages that a host keeps, and where a reader with a cursor begins among them.

use std::collections::VecDeque;

use bytes::Bytes;

/// What a host takes a cursor for.
///
/// The specification's text and what is deployed differ, so readers have to live with both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CursorRule {
    /// The last message that the reader has: it gets those after it.
    #[default]
    After,
    /// The first message that the reader wants.
    From,
}

/// A message as it was sequenced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) seq: i64,
    pub(super) bytes: Bytes,
}

/// The window of past messages. Each has a place, which never changes, and a `seq`.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    kept: VecDeque<Sent>,
    /// The place of the first that is kept.
    first: u64,
    /// The highest `seq` that is not kept any more.
    forgotten: i64,
    last: i64,
}

/// Where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// At this place.
    At(u64),
    /// At this place, the window's first; what it asked for is not kept any more.
    Outdated(u64),
    /// Its cursor is above all that there is.
    Future,
}

impl Backlog {
    pub(super) fn start(&self, cursor: Option<i64>, rule: CursorRule) -> Start {
        let Some(cursor) = cursor else {
            return Start::At(self.end());
        };
        if cursor == 0 {
            return Start::At(self.first);
        }
        if cursor > self.last {
            return Start::Future;
        }
        let wanted = match rule {
            CursorRule::After => cursor + 1,
            CursorRule::From => cursor,
        };
        if wanted <= self.forgotten {
            return Start::Outdated(self.first);
        }
        let before = self.kept.partition_point(|sent| sent.seq < wanted);
        Start::At(self.first + before as u64)
    }

    pub(super) fn push(&mut self, sent: Sent) {
        assert!(sent.seq > self.last, "numbers rise");
        self.last = sent.seq;
        self.kept.push_back(sent);
    }

    /// Forgets all messages but the last `count`.
    pub(super) fn keep_last(&mut self, count: usize) {
        while self.kept.len() > count {
            let forgotten = self.kept.pop_front().expect("there are more");
            self.forgotten = forgotten.seq;
            self.first += 1;
        }
    }

    /// Forgets all messages and counts from the beginning, as a host does that lost its database.
    pub(super) fn reset(&mut self) {
        self.first = self.end();
        self.kept.clear();
        self.forgotten = 0;
        self.last = 0;
    }

    /// The message at a place; none if it is not there yet, or not any more.
    pub(super) fn get(&self, place: u64) -> Option<&Sent> {
        let at = usize::try_from(place.checked_sub(self.first)?).ok()?;
        self.kept.get(at)
    }

    /// The first place that is kept.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// The place of the next message.
    pub(super) fn end(&self) -> u64 {
        self.first + self.kept.len() as u64
    }

    /// The last message's `seq`, 0 before the first.
    pub(super) fn last(&self) -> i64 {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_finds_its_place_by_either_rule() {
        let mut backlog = Backlog::default();
        for seq in [2, 3, 7, 9] {
            push(&mut backlog, seq);
        }
        for (cursor, after, from) in [
            (None, Start::At(4), Start::At(4)),
            (Some(0), Start::At(0), Start::At(0)),
            (Some(1), Start::At(0), Start::At(0)),
            (Some(3), Start::At(2), Start::At(1)),
            (Some(5), Start::At(2), Start::At(2)),
            (Some(9), Start::At(4), Start::At(3)),
            (Some(10), Start::Future, Start::Future),
        ] {
            assert_eq!(backlog.start(cursor, CursorRule::After), after);
            assert_eq!(backlog.start(cursor, CursorRule::From), from);
        }
    }

    #[test]
    fn what_left_the_window_is_outdated() {
        let mut backlog = Backlog::default();
        for seq in [2, 3, 7, 9] {
            push(&mut backlog, seq);
        }
        backlog.keep_last(2);
        assert_eq!((backlog.first(), backlog.end()), (2, 4));
        for (cursor, after, from) in [
            (Some(0), Start::At(2), Start::At(2)),
            (Some(2), Start::Outdated(2), Start::Outdated(2)),
            (Some(3), Start::At(2), Start::Outdated(2)),
            (Some(7), Start::At(3), Start::At(2)),
        ] {
            assert_eq!(backlog.start(cursor, CursorRule::After), after);
            assert_eq!(backlog.start(cursor, CursorRule::From), from);
        }
        assert_eq!(backlog.get(1), None);
        assert_eq!(backlog.get(2).map(|sent| sent.seq), Some(7));
    }

    #[test]
    fn a_lost_database_makes_cursors_future() {
        let mut backlog = Backlog::default();
        push(&mut backlog, 9);
        backlog.reset();
        push(&mut backlog, 1);
        assert_eq!(backlog.start(Some(9), CursorRule::After), Start::Future);
        assert_eq!(backlog.start(Some(0), CursorRule::After), Start::At(1));
    }

    fn push(backlog: &mut Backlog, seq: i64) {
        let bytes = Bytes::from(vec![0]);
        backlog.push(Sent { seq, bytes });
    }
}
