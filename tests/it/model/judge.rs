//! What must hold in every state.

use super::bucket::{IDS, NUMBERS};
use super::protocol::Protocol;
use super::state::{Chance, State};
use super::step::Violation;

impl Protocol {
    /// The first thing that is wrong with `state`.
    pub(super) fn judge(&self, state: &State) -> Option<Violation> {
        state
            .ghost
            .violation
            .or_else(|| self.judge_names(state))
            .or_else(|| self.judge_log(state))
            .or_else(|| self.judge_grants(state))
    }

    /// The bucket's newest manifest is the chain's end, and all from its `floor` on are the chain's and complete.
    fn judge_names(&self, state: &State) -> Option<Violation> {
        let top = usize::from(state.ghost.top);
        let manifests = &state.bucket.manifests;
        let is_complete = |version: usize| {
            let manifest = &manifests[version];
            manifest.is_there()
                && manifest.commit == state.ghost.chain[version]
                && manifest
                    .segments
                    .iter()
                    .all(|segment| state.bucket.segments[segment].is_there)
        };
        let floor = usize::from(manifests[top].floor).min(top);
        let holds = state.bucket.newest() == top && (floor..=top).all(is_complete);
        (!holds).then_some(Violation::NameDangles)
    }

    /// A view that opens in this instant is right, and its tails take all of the log above `merged`.
    fn judge_log(&self, state: &State) -> Option<Violation> {
        let newest = &state.bucket.manifests[usize::from(state.ghost.top)];
        let listing = state.bucket.list_log();
        let ends = self.tail_ends(&listing, &newest.merged);
        let Some(tail) = state.bucket.read_log(&listing, &newest.merged, &ends) else {
            return Some(Violation::ChangeLost);
        };
        let is_reached =
            |id: usize| (usize::from(ends[id])..NUMBERS).all(|number| !listing[id].has(number));
        self.judge_view(&state.bucket, newest, tail, state.ghost.required)
            .or_else(|| (!(0..IDS).all(is_reached)).then_some(Violation::LogUnreachable))
    }

    /// No grant was made twice.
    fn judge_grants(&self, state: &State) -> Option<Violation> {
        let begun =
            self.instance.chances[Chance::Grant as usize] - state.chances[Chance::Grant as usize];
        let made = state.bucket.manifests[usize::from(state.ghost.top)].grants;
        (made > begun).then_some(Violation::AppliedTwice)
    }
}
