//! Datetimes: what is read is a time that writes and reads as itself to the millisecond.

use atproto::datetime;

/// Fuzzes `datetime::parse`, and `canonical` with any number.
pub(crate) fn datetime(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(us) = datetime::parse(text)
    {
        assert!(datetime::is_well_formed(text));
        rewrites(us);
    }
    if let Some(bytes) = data.first_chunk::<8>() {
        rewrites(i64::from_le_bytes(*bytes));
    }
}

fn rewrites(us: i64) {
    let text = datetime::canonical(us);
    match datetime::parse(&text) {
        Ok(again) => assert_eq!(again, us.div_euclid(1000) * 1000),
        Err(_) => assert!(text.starts_with(['+', '-']), "{text}"),
    }
}
