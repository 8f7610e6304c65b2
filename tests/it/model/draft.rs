//! The next manifest as a function of the newest one, with each task's precondition.
//!
//! Pure: reads the bucket's segments, writes nothing. Called again after each lost race.

use super::bits::Bits;
use super::bucket::{Bucket, Manifest, Segment};
use super::protocol::Protocol;
use super::state::{Committer, FlushPlan, MergePlan, Task};
use super::step::SafetyStep;

impl Protocol {
    /// Applies the task of `committer` to `newest`; none if its precondition does not hold.
    pub(super) fn draft(
        &self,
        bucket: &Bucket,
        committer: &Committer,
        newest: &Manifest,
    ) -> Option<Manifest> {
        let mut next = *newest;
        next.commit = committer.commit;
        let uploads = matches!(committer.task, Task::Flush(_) | Task::Merge(_));
        if uploads
            && committer.base < newest.upload_floor
            && self.keeps(SafetyStep::BaseAgainstUploadFloor)
        {
            return None;
        }
        match &committer.task {
            Task::Nothing => return None,
            Task::Flush(plan) => self.draft_flush(bucket, plan, newest, &mut next)?,
            Task::Merge(plan) => self.draft_merge(bucket, plan, newest, &mut next)?,
            &Task::Collect {
                floor,
                upload_floor,
            } => {
                let rises = self.keeps(SafetyStep::FloorsOnlyRise);
                next.floor = if rises {
                    newest.floor.max(floor)
                } else {
                    floor
                };
                next.upload_floor = if rises {
                    newest.upload_floor.max(upload_floor)
                } else {
                    upload_floor
                };
            }
            Task::Grant => next.grants += 1,
        }
        Some(next)
    }

    fn draft_flush(
        &self,
        bucket: &Bucket,
        plan: &FlushPlan,
        newest: &Manifest,
        next: &mut Manifest,
    ) -> Option<()> {
        for (id, (&from, &to)) in plan.from.iter().zip(&plan.to).enumerate() {
            if from != to {
                if newest.merged[id] != from && self.keeps(SafetyStep::FlushNeedsMergedUnchanged) {
                    return None;
                }
                next.merged[id] = newest.merged[id].max(to);
            }
        }
        let own = bucket.segments[usize::from(plan.segment)];
        next.repo_floor = newest.repo_floor.max(self.changes.repo_floor(plan.changes));
        let judged = if self.keeps(SafetyStep::FlushJudgesAgain) {
            newest.segments
        } else {
            newest.segments & plan.judged
        };
        let mut known = Bits::EMPTY;
        for index in judged.iter() {
            let segment = bucket.segments[index];
            let live = segment.rows - newest.marks[index];
            next.marks[index] |= self.changes.outdated(live, own.rows | own.tombstones);
            known |= live | segment.tombstones;
        }
        let dead = own.rows - self.changes.not_below(own.rows, next.repo_floor);
        next.marks[usize::from(plan.segment)] =
            dead | self.changes.outdated_or_repeated(own.rows, known);
        next.segments |= Bits::one(usize::from(plan.segment));
        next.covers |= plan.changes;
        Some(())
    }

    fn draft_merge(
        &self,
        bucket: &Bucket,
        plan: &MergePlan,
        newest: &Manifest,
        next: &mut Manifest,
    ) -> Option<()> {
        let [first, second] = plan.inputs.map(usize::from);
        let inputs = Bits::one(first) | Bits::one(second);
        if !inputs.is_within(newest.segments) && self.keeps(SafetyStep::MergeNeedsInputs) {
            return None;
        }
        let output = usize::from(plan.segment);
        let marked =
            (newest.marks[first] & plan.from_first) | (newest.marks[second] - plan.from_first);
        if self.keeps(SafetyStep::MergeCarriesMarks) {
            next.marks[output] = marked & bucket.segments[output].rows;
        }
        next.marks[first] = Bits::EMPTY;
        next.marks[second] = Bits::EMPTY;
        next.segments = (newest.segments - inputs) | Bits::one(output);
        Some(())
    }

    /// The segment that holds `changes` of a tail.
    pub(super) fn flushed(&self, changes: Bits, base: u8) -> Segment {
        let (rows, tombstones) = self.changes.winners(changes);
        Segment {
            is_there: true,
            base,
            rows,
            tombstones,
        }
    }

    /// The segment that two segments of `manifest` merge into, and the rows that came from the first.
    pub(super) fn merged(
        &self,
        bucket: &Bucket,
        manifest: &Manifest,
        inputs: [u8; 2],
        base: u8,
    ) -> (Segment, Bits) {
        let [first, second] = inputs.map(usize::from);
        let from_first = bucket.segments[first].rows - manifest.marks[first];
        let from_second = bucket.segments[second].rows - manifest.marks[second];
        let mut tombstones = bucket.segments[first].tombstones | bucket.segments[second].tombstones;
        if !self.keeps(SafetyStep::MergeKeepsTombstones) {
            tombstones = Bits::EMPTY;
        }
        let rows = self
            .changes
            .not_below(from_first | from_second, manifest.repo_floor);
        let tombstones = self.changes.not_below(tombstones, manifest.repo_floor);
        (
            Segment {
                is_there: true,
                base,
                rows,
                tombstones,
            },
            from_first & rows,
        )
    }
}
