//! The partition of a row: a function of its key, never of when it arrived, so that a key has one partition for ever.
//!
//! Rows with a time in their key (a TID as record key, an event's time) are partitioned by month within fixed bounds;
//! absurd times and all other keys by a hash of their first column. The names stand in segment entries: changing this
//! is a new format.

use crdt::atproto::Tid;

/// Partitions of keys without a time.
// Few: a table of profiles has some ten million rows a partition when the whole network is in it.
const HASHED: u8 = 8;
/// 2022-01-01 and 2040-01-01, µs since the epoch: no record is older than the network, and a TID beyond is absurd.
const TIMES: std::ops::Range<i64> = 1_640_995_200_000_000..2_208_988_800_000_000;

/// The partition of a record with this key.
#[must_use]
pub(crate) fn of_record(did: &str, rkey: &str) -> String {
    let micros = rkey.parse::<Tid>().ok().map(|tid| tid.micros());
    match micros {
        Some(micros) if TIMES.contains(&micros) => month(micros),
        _ => of_text(did),
    }
}

/// The partition of a row whose key starts with a time; `text` is hashed where the time is absurd.
#[must_use]
pub(crate) fn of_time(micros: i64, text: &str) -> String {
    if TIMES.contains(&micros) {
        month(micros)
    } else {
        of_text(text)
    }
}

/// The partition of a row whose key starts with `text`.
#[must_use]
pub(crate) fn of_text(text: &str) -> String {
    format!("h{}", blake3::hash(text.as_bytes()).as_bytes()[0] % HASHED)
}

/// The month of a time, as `2026-07`.
fn month(micros: i64) -> String {
    // Days since 0000-03-01 in the proleptic Gregorian calendar, years that begin in March (H. Hinnant, "chrono-
    // Compatible Low-Level Date Algorithms").
    let days = micros.div_euclid(86_400_000_000) + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_is_the_calendars() {
        assert_eq!(month(0), "1970-01");
        assert_eq!(month(1_640_995_200_000_000), "2022-01");
        assert_eq!(month(1_709_164_800_000_000), "2024-02");
        assert_eq!(month(1_709_251_200_000_000), "2024-03");
        assert_eq!(month(1_783_175_888_000_000), "2026-07");
        assert_eq!(month(2_208_988_799_999_999), "2039-12");
    }

    #[test]
    fn a_tid_has_its_month_and_other_keys_a_hash_of_their_did() {
        assert_eq!(of_record("did:plc:a", "3mptbyplj5d2a"), "2026-07");
        assert_eq!(of_record("did:plc:a", "self"), of_text("did:plc:a"));
        assert_eq!(
            of_record("did:plc:a", "2222222222222"),
            of_text("did:plc:a")
        );
        assert_eq!(
            of_record("did:plc:a", "jzzzzzzzzzzzz"),
            of_text("did:plc:a")
        );
    }

    #[test]
    fn hashed_names_are_those_that_buckets_hold() {
        assert_eq!(of_text("did:plc:a"), "h2");
    }
}
