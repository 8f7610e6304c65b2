//! Opening a view, what it answers, and the judgement on it.
//!
//! The log is listed key by key, in the order of its names, so that anything may happen between two keys; then the
//! manifests in one LIST, whose least name is then read. A 404 gives the opening up.

use super::bits::Bits;
use super::bucket::{Bucket, Ends, IDS, Listing, Manifest};
use super::protocol::Protocol;
use super::state::{Action, Chance, ReadPhase, Reader, State};
use super::step::{SafetyStep, Violation};

impl Protocol {
    pub(super) fn view_actions(&self, state: &State, actions: &mut Vec<Action>) {
        match state.reader.phase {
            ReadPhase::Idle if state.may(Chance::View) => {
                actions.push(Action::OpenView { hint: None });
                let newest = state.bucket.newest();
                let confirmed = self.keeps(SafetyStep::ListFromConfirmed);
                let oldest = if confirmed {
                    state.bucket.manifests[newest].floor
                } else {
                    0
                };
                let hints = (oldest..=newest as u8).map(Some);
                actions.extend(hints.map(|hint| Action::OpenView { hint }));
            }
            ReadPhase::Idle => {}
            ReadPhase::Listing { .. } => actions.push(Action::ListPageForView),
            ReadPhase::Choosing => actions.push(Action::ListManifests),
            ReadPhase::Getting { .. } => actions.push(Action::GetManifest),
        }
    }

    pub(super) fn open_view(&self, state: &mut State, hint: Option<u8>) -> Option<()> {
        state.spend(Chance::View)?;
        let newest = state.bucket.manifests[state.bucket.newest()];
        let first = (!self.keeps(SafetyStep::LogListedFirst)).then_some(newest);
        let start = hint.map(|version| state.bucket.manifests[usize::from(version)].merged);
        state.reader = Reader {
            phase: ReadPhase::Listing { page: 0, first },
            start: start.unwrap_or_default(),
            required: state.ghost.required,
            ..Reader::default()
        };
        Some(())
    }

    pub(super) fn list_page_for_view(&self, state: &mut State) -> Option<()> {
        let ReadPhase::Listing { mut page, first } = state.reader.phase else {
            return None;
        };
        self.list_page(&state.bucket, &mut page, &mut state.reader.listing);
        for (numbers, start) in state.reader.listing.iter_mut().zip(state.reader.start) {
            *numbers = *numbers - Bits::below(usize::from(start));
        }
        state.reader.phase = if page < self.pages() {
            ReadPhase::Listing { page, first }
        } else if let Some(manifest) = first {
            self.show(state, manifest);
            return Some(());
        } else {
            ReadPhase::Choosing
        };
        Some(())
    }

    pub(super) fn list_manifests(&self, state: &mut State) -> Option<()> {
        let version = state.bucket.newest();
        let etag = state.bucket.manifests[version].commit;
        state.reader.phase = ReadPhase::Getting {
            version: version as u8,
            etag,
        };
        Some(())
    }

    pub(super) fn get_manifest(&self, state: &mut State) -> Option<()> {
        let ReadPhase::Getting { version, etag } = state.reader.phase else {
            return None;
        };
        let manifest = state.bucket.manifests[usize::from(version)];
        let matches = manifest.commit == etag || !self.keeps(SafetyStep::ManifestByETag);
        if manifest.is_there() && matches {
            self.show(state, manifest);
        } else {
            state.reader = Reader::default();
        }
        Some(())
    }

    /// Reads the tail and the segments of `manifest`, and has the answer judged.
    fn show(&self, state: &mut State, manifest: Manifest) {
        let reader = std::mem::take(&mut state.reader);
        let ends = self.tail_ends(&reader.listing, &manifest.merged);
        let Some(tail) = state
            .bucket
            .read_log(&reader.listing, &manifest.merged, &ends)
        else {
            return;
        };
        if manifest
            .segments
            .iter()
            .any(|segment| !state.bucket.segments[segment].is_there)
        {
            return;
        }
        state.ghost.violation = self.judge_view(&state.bucket, &manifest, tail, reader.required);
        state.ghost.required |= manifest.covers | tail;
    }

    /// What is wrong with a view of `manifest` and `tail` that was opened when `required` was due.
    pub(super) fn judge_view(
        &self,
        bucket: &Bucket,
        manifest: &Manifest,
        tail: Bits,
        required: Bits,
    ) -> Option<Violation> {
        let covered = manifest.covers | tail;
        if !required.is_within(covered) {
            return Some(Violation::ChangeLost);
        }
        if self.answer(bucket, manifest, tail) != Some(self.changes.fold(covered)) {
            return Some(Violation::WrongAnswer);
        }
        (!self.changes.floors_have_records(covered)).then_some(Violation::FloorWithoutRecords)
    }

    /// Segments minus marks, joined with the tail; none if one identity has two rows.
    fn answer(&self, bucket: &Bucket, manifest: &Manifest, tail: Bits) -> Option<Bits> {
        let mut rows = Bits::EMPTY;
        let mut tombstones = Bits::EMPTY;
        for segment in manifest.segments.iter() {
            let unmarked = bucket.segments[segment].rows - manifest.marks[segment];
            if rows.meets(unmarked) {
                return None;
            }
            rows |= unmarked;
            tombstones |= bucket.segments[segment].tombstones;
        }
        let (tail_rows, _) = self.changes.winners(tail);
        let live = rows - self.changes.outdated(rows, tail);
        let new = tail_rows
            - self
                .changes
                .outdated_or_repeated(tail_rows, rows | tombstones);
        let repo_floor = manifest.repo_floor.max(self.changes.repo_floor(tail));
        Some(self.changes.not_below(live | new, repo_floor))
    }

    /// Per writer: the end of the unbroken run of listed numbers above `merged`.
    pub(super) fn tail_ends(&self, listing: &Listing, merged: &Ends) -> Ends {
        std::array::from_fn(|id| {
            let mut end = merged[id];
            if self.keeps(SafetyStep::StopAtHole) {
                while listing[id].has(usize::from(end)) {
                    end += 1;
                }
                end
            } else {
                listing[id]
                    .iter()
                    .last()
                    .map_or(end, |number| end.max(number as u8 + 1))
            }
        })
    }

    /// Reads one key of a LIST of the log.
    pub(super) fn list_page(&self, bucket: &Bucket, page: &mut u8, listing: &mut Listing) {
        let id = usize::from(*page / self.instance.numbers);
        let number = usize::from(*page % self.instance.numbers);
        debug_assert!(id < IDS, "a LIST ends at the last id");
        if !bucket.log[id][number].is_empty() {
            listing[id] |= Bits::one(number);
        }
        *page += 1;
    }

    /// The keys that a LIST of the log goes through.
    pub(super) fn pages(&self) -> u8 {
        self.instance.ids * self.instance.numbers
    }
}
