//! CARs: what parses hashes, encodes to the same blocks, and holds a whole repository or is refused as one.

use atproto::{Car, Verification, car, cbor, verify_repo};

/// A time after every revision in the corpus.
const NOW_US: i64 = 1_800_000_000_000_000;

/// Fuzzes `Car::parse` and `verify_repo`.
pub(crate) fn car(data: &[u8]) {
    let parsed = Car::parse(data);
    if let Ok(parsed) = &parsed {
        assert!(parsed.iter().all(|(cid, block)| cid.matches(block)));
        let encoded = car::encode(parsed.roots(), parsed.iter());
        assert_eq!(Car::parse(&encoded).as_ref(), Ok(parsed));
    }
    if let Ok(repo) = verify_repo(data, None, NOW_US) {
        assert_eq!(repo.verification(), Verification::Archive);
        assert_eq!(parsed.map(|car| car.root()), Ok(repo.commit()));
        for record in repo.records() {
            assert!(record.cid.matches(&record.record));
            assert!(cbor::decode(&record.record).is_ok_and(|value| value.as_map().is_some()));
        }
        let paths = repo
            .records()
            .iter()
            .map(|record| (record.collection.as_str(), record.rkey.as_str()));
        let paths: Vec<String> = paths
            .map(|(collection, rkey)| format!("{collection}/{rkey}"))
            .collect();
        assert!(paths.is_sorted_by(|left, right| left < right));
    }
}
