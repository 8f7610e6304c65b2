//! Which floors a round of collection should commit: pure.

use crate::clock::micros;
use crate::collect::Policy;
use crate::ids::Version;
use crate::manifest::{CommitKind, Listed, Root};

/// The floors to commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Condemned {
    pub(super) floor: Version,
    pub(super) upload_floor: Version,
    pub(super) is_worth_a_commit: bool,
}

/// Floors for `newest`, given all `versions` that were listed (oldest first) and their ages at `now_us`.
///
/// A version is needed for the retention after the next one came, and an upload for the grace after its maker
/// had read its base.
pub(super) fn condemn(
    newest: &Root,
    versions: &[Listed],
    policy: Policy,
    now_us: i64,
) -> Condemned {
    let chain: Vec<_> = versions
        .iter()
        .filter(|listed| listed.version >= newest.floor && listed.version <= newest.version)
        .collect();
    let current_at = |then_us: i64| {
        let at_that_time = chain
            .iter()
            .rev()
            .find(|listed| listed.last_modified_us <= then_us);
        at_that_time.map_or(Version::GENESIS, |listed| listed.version)
    };
    let floor = newest
        .floor
        .max(current_at(now_us.saturating_sub(micros(policy.retention))));
    let upload_floor = newest
        .upload_floor
        .max(current_at(now_us.saturating_sub(micros(policy.grace))));
    let is_raised = floor > newest.floor || upload_floor > newest.upload_floor;
    let is_expired = newest.kept.iter().any(|kept| kept.expires_us <= now_us);
    // An idle database would else get a commit a round, each condemning one of its like.
    let last_us = chain
        .last()
        .map_or(now_us, |listed| listed.last_modified_us);
    let is_rested = now_us.saturating_sub(last_us) > micros(policy.grace);
    let is_idle = newest.kind == CommitKind::Collect && !is_rested;
    Condemned {
        floor,
        upload_floor,
        is_worth_a_commit: is_expired || (is_raised && !is_idle),
    }
}

/// The version by whose `merged` log objects go: the newest that is in the chain and older than the grace.
pub(super) fn merged_by<'a>(
    newest: &Root,
    versions: &'a [Listed],
    policy: Policy,
    now_us: i64,
) -> Option<&'a Listed> {
    let before_us = now_us.saturating_sub(micros(policy.grace));
    versions.iter().rev().find(|listed| {
        // Below the floor it may be a phantom, whatever its age: its `merged` never was in the chain.
        let is_in_chain = listed.version >= newest.floor && listed.version <= newest.version;
        is_in_chain && listed.last_modified_us < before_us
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::DatabaseId;
    use crate::manifest::Kept;
    use std::time::Duration;
    use ulid::Ulid;

    const MINUTE_US: i64 = 60_000_000;

    fn policy() -> Policy {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        Policy {
            retention: minutes(60),
            grace: minutes(10),
            is_dry: false,
        }
    }

    /// Versions from 1 on, written at these minutes.
    fn versions(minutes: &[i64]) -> Vec<Listed> {
        let listed = minutes.iter().zip(1..).map(|(minute, version)| Listed {
            version: Version(version),
            e_tag: None,
            size: 1,
            last_modified_us: minute * MINUTE_US,
        });
        listed.collect()
    }

    fn newest(version: u64) -> Root {
        Root {
            version: Version(version),
            kind: CommitKind::Flush,
            ..Root::genesis(DatabaseId(Ulid(1)))
        }
    }

    #[test]
    fn a_version_goes_when_its_successor_is_older_than_the_retention() {
        let versions = versions(&[0, 30, 100, 101]);
        let floor =
            |minute: i64| condemn(&newest(4), &versions, policy(), minute * MINUTE_US).floor;
        assert_eq!(floor(89), Version(1));
        assert_eq!(floor(90), Version(2));
        assert_eq!(floor(159), Version(2));
        assert_eq!(floor(160), Version(3));
        assert_eq!(floor(100_000), Version(4), "the newest is never condemned");
    }

    #[test]
    fn an_upload_begun_within_the_grace_stays_above_the_floor() {
        let versions = versions(&[0, 30, 100]);
        let floor =
            |minute: i64| condemn(&newest(3), &versions, policy(), minute * MINUTE_US).upload_floor;
        assert_eq!(floor(109), Version(2));
        assert_eq!(floor(110), Version(3));
    }

    #[test]
    fn an_idle_database_rests_between_commits() {
        let versions = versions(&[0, 1, 2]);
        let mut newest = newest(3);
        newest.kind = CommitKind::Collect;
        assert!(!condemn(&newest, &versions, policy(), 11 * MINUTE_US).is_worth_a_commit);
        assert!(condemn(&newest, &versions, policy(), 13 * MINUTE_US).is_worth_a_commit);
        newest.kept = vec![Kept {
            version: Version(1),
            name: "pin".into(),
            expires_us: 5,
        }];
        assert!(condemn(&newest, &versions, policy(), 11 * MINUTE_US).is_worth_a_commit);
    }

    #[test]
    fn nothing_is_condemned_where_nothing_is() {
        let condemned = condemn(&newest(0), &[], policy(), 1_000 * MINUTE_US);
        assert!(!condemned.is_worth_a_commit);
    }

    #[test]
    fn log_objects_go_by_the_newest_old_version_and_never_by_a_phantom() {
        let versions = versions(&[0, 30, 100]);
        let by = |floor, minute| {
            let newest = Root {
                floor: Version(floor),
                ..newest(3)
            };
            let by = merged_by(&newest, &versions, policy(), minute * MINUTE_US);
            by.map(|listed| listed.version.0)
        };
        assert_eq!(
            [by(0, 5), by(0, 11), by(0, 41), by(0, 110), by(0, 111)],
            [None, Some(1), Some(2), Some(2), Some(3)]
        );
        assert_eq!(
            [by(2, 11), by(2, 41), by(3, 110), by(3, 111)],
            [None, Some(2), None, Some(3)]
        );
    }
}
