//! Appending: writers, their PUTs, and the deletion of log objects.
//!
//! An append is acknowledged by the success of its PUT, or by a GET that returns its bytes. Two writers share an id only
//! where a machine was cloned. Time is left out but for one fact: an object that the collector deletes is older than the
//! grace. Confirmed answers are at most half the grace apart, so a writer that had fewer than two of them since the object
//! was there is overdue.

use super::bits::Bits;
use super::bucket::IDS;
use super::protocol::Protocol;
use super::state::{
    Action, Chance, DelayedAppend, OUTCOMES, Outcome, State, WRITERS, Writer, WriterPhase,
};
use super::step::{SafetyStep, Violation};

impl Protocol {
    pub(super) fn append_actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (writer, process) in (0_u8..).zip(&state.writers) {
            if process.phase == WriterPhase::Stopped {
                continue;
            }
            if state.may(Chance::Crash) {
                actions.push(Action::Restart { writer });
            }
            if process.phase == WriterPhase::Reading {
                actions.push(Action::ReadBack { writer });
                continue;
            }
            actions.extend(OUTCOMES.map(|outcome| Action::Append { writer, outcome }));
            if !self.keeps(SafetyStep::OnePutInFlight) {
                actions.push(Action::SendNext { writer });
            }
        }
        if state.delayed_append.is_some() {
            actions.extend([false, true].map(|answered| Action::ApplyDelayedAppend { answered }));
        }
    }

    /// One PUT of the unacknowledged batch.
    pub(super) fn append(&self, state: &mut State, index: usize, outcome: Outcome) -> Option<()> {
        let Writer { id, number, .. } = state.writers[index];
        let changes = self.batch(state, index)?;
        let object = &mut state.bucket.log[usize::from(id)][usize::from(number)];
        let was_absent = object.is_empty();
        let applies = was_absent || !self.keeps(SafetyStep::CreateLogIfAbsent);
        match outcome {
            Outcome::Answered if applies => {
                *object = changes;
                self.acknowledge(state, index);
            }
            Outcome::Answered => self.doubt_append(state, index, WriterPhase::Reading),
            Outcome::AppliedUnanswered => {
                if !applies {
                    return None;
                }
                *object = changes;
                state.spend(Chance::LoseAppend)?;
                self.doubt_append(state, index, WriterPhase::Sending);
            }
            Outcome::DroppedUnanswered => {
                state.spend(Chance::LoseAppend)?;
                self.doubt_append(state, index, WriterPhase::Sending);
            }
            Outcome::Delayed => {
                if state.delayed_append.is_some() {
                    return None;
                }
                state.spend(Chance::DelayAppend)?;
                state.delayed_append = Some(DelayedAppend {
                    id,
                    number,
                    changes,
                });
                self.doubt_append(state, index, WriterPhase::Sending);
            }
            Outcome::Conflicted => {
                if !was_absent {
                    return None;
                }
                state.spend(Chance::Conflict)?;
                self.doubt_append(state, index, WriterPhase::Reading);
            }
        }
        Some(())
    }

    fn doubt_append(&self, state: &mut State, index: usize, next: WriterPhase) {
        if self.keeps(SafetyStep::GetAfterUnknownAppend) {
            state.writers[index].phase = next;
        } else {
            self.acknowledge(state, index);
        }
    }

    /// The GET after `AlreadyExists`: our bytes acknowledge, nothing is sent again, foreign bytes end this id.
    pub(super) fn read_back(&self, state: &mut State, index: usize) -> Option<()> {
        let Writer { id, number, .. } = state.writers[index];
        let found = state.bucket.log[usize::from(id)][usize::from(number)];
        if found == self.batch(state, index)? {
            self.acknowledge(state, index);
        } else if found.is_empty() {
            state.writers[index].phase = WriterPhase::Sending;
        } else if self.keeps(SafetyStep::NewIdAfterForeignBytes) || self.is_too_late(state, index) {
            self.mint(state, index);
        } else {
            self.advance(state, index);
        }
        Some(())
    }

    /// A confirmed answer: the batch counts as durable, unless the answer comes too late.
    fn acknowledge(&self, state: &mut State, index: usize) {
        if self.is_too_late(state, index) {
            self.mint(state, index);
            return;
        }
        let Some(batch) = self.batch(state, index) else {
            return;
        };
        state.ghost.required |= batch;
        state.writers[index].batch += 1;
        self.advance(state, index);
    }

    fn is_too_late(&self, state: &State, index: usize) -> bool {
        state.writers[index].is_overdue && self.keeps(SafetyStep::HalfGrace)
    }

    /// Goes on at the next number of the same id.
    fn advance(&self, state: &mut State, index: usize) {
        let has_more = self.batch(state, index).is_some();
        let writer = &mut state.writers[index];
        writer.number += 1;
        writer.phase = WriterPhase::Sending;
        writer.is_overdue = false;
        if self.instance.clone {
            writer.confirmed = [
                state.bucket.numbers(usize::from(writer.id)),
                writer.confirmed[0],
            ];
        }
        if !has_more || writer.number >= self.instance.numbers {
            *writer = Writer {
                batch: writer.batch,
                ..Writer::default()
            };
        }
    }

    /// Takes a new id and sends there, from number 1, all that is unacknowledged.
    fn mint(&self, state: &mut State, index: usize) {
        let writer = &mut state.writers[index];
        let mut batch = writer.batch;
        if let Some(resync) = self.instance.resync[index]
            && batch > resync
            && self.keeps(SafetyStep::ResyncBeginsAgain)
        {
            batch = resync;
        }
        *writer = Writer {
            batch,
            ..Writer::default()
        };
        if state.ids_minted < self.instance.ids {
            writer.phase = WriterPhase::Sending;
            writer.id = state.ids_minted;
            state.ids_minted += 1;
        }
    }

    /// A crash: the source sends again what was not acknowledged.
    pub(super) fn restart(&self, state: &mut State, index: usize) -> Option<()> {
        state.spend(Chance::Crash)?;
        if self.keeps(SafetyStep::NewIdAtStart) {
            self.mint(state, index);
        } else {
            let Writer { id, batch, .. } = state.writers[index];
            state.writers[index] = Writer {
                phase: WriterPhase::Sending,
                id,
                batch,
                ..Writer::default()
            };
        }
        Some(())
    }

    /// Sends the next batch although the outcome of this one is unknown, for ever.
    pub(super) fn send_next(&self, state: &mut State, index: usize) -> Option<()> {
        state.writers[index].batch += 1;
        state.writers[index].number += 1;
        self.batch(state, index)?;
        (state.writers[index].number < self.instance.numbers).then_some(())
    }

    /// The store applies a PUT that it had delayed; its answer may still reach the process that waits for it.
    pub(super) fn apply_delayed_append(&self, state: &mut State, answered: bool) -> Option<()> {
        let DelayedAppend {
            id,
            number,
            changes,
        } = state.delayed_append.take()?;
        let object = &mut state.bucket.log[usize::from(id)][usize::from(number)];
        let applies = object.is_empty() || !self.keeps(SafetyStep::CreateLogIfAbsent);
        if applies {
            *object = changes;
        }
        if answered {
            let waits = |index: &usize| {
                let writer = state.writers[*index];
                writer.phase == WriterPhase::Sending
                    && (writer.id, writer.number) == (id, number)
                    && self.batch(state, *index) == Some(changes)
            };
            let index = (0..WRITERS).find(waits).filter(|_| applies)?;
            self.acknowledge(state, index);
        }
        Some(())
    }

    pub(super) fn log_deletions(&self, state: &State, actions: &mut Vec<Action>) {
        if !state.may(Chance::DeleteLog) {
            return;
        }
        let manifests = &state.bucket.manifests;
        let newest = state.bucket.newest();
        let oldest = if self.keeps(SafetyStep::LogCondemnedByChain) {
            usize::from(manifests[newest].floor)
        } else {
            0
        };
        for id in 0..IDS {
            for number in state.bucket.numbers(id).iter() {
                let condemns = |version: &usize| {
                    manifests[*version].is_there()
                        && usize::from(manifests[*version].merged[id]) > number
                };
                if let Some(version) = (oldest..=newest).rev().find(condemns) {
                    actions.push(Action::DeleteLog {
                        id: id as u8,
                        number: number as u8,
                        condemned_by: version as u8,
                    });
                }
            }
        }
    }

    /// The collector deletes a merged log object: a good while after it was merged, or, without clones, at any moment.
    pub(super) fn delete_log(&self, state: &mut State, id: usize, number: usize) -> Option<()> {
        state.spend(Chance::DeleteLog)?;
        let changes = std::mem::take(&mut state.bucket.log[id][number]);
        let mut missing = changes - state.bucket.manifests[usize::from(state.ghost.top)].covers;
        if self.instance.clone {
            // A clone's late object may differ from what was merged at its number. It matters only if it was
            // acknowledged and stands nowhere else.
            let elsewhere: Bits = state.bucket.log.iter().flatten().copied().collect();
            missing = missing & (state.ghost.required - elsewhere);
            if self.keeps(SafetyStep::Grace) {
                for writer in &mut state.writers {
                    if writer.phase != WriterPhase::Stopped && usize::from(writer.id) == id {
                        writer.is_overdue |= !writer.confirmed[1].has(number);
                    }
                }
            }
        }
        if !missing.is_empty() {
            state.ghost.violation = Some(Violation::LogDeletedEarly);
        }
        Some(())
    }

    /// The changes that a writer has yet to get acknowledged next.
    fn batch(&self, state: &State, index: usize) -> Option<Bits> {
        self.scripts[index]
            .get(usize::from(state.writers[index].batch))
            .copied()
    }
}
