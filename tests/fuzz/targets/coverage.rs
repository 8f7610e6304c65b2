//! Coverages: what is accepted has one text, which stands for the same collections.

use crdt::Coverage;

/// Fuzzes the text of a coverage.
pub(crate) fn coverage(data: &[u8]) {
    let Some(coverage) = std::str::from_utf8(data)
        .ok()
        .and_then(|text| text.parse::<Coverage>().ok())
    else {
        return;
    };
    let text = coverage.to_string();
    assert_eq!(text.len(), coverage.text_bytes());
    assert_eq!(Coverage::from_canonical(&text).as_ref(), Some(&coverage));
    assert_eq!(text.is_empty(), coverage.is_everything());
    for pattern in coverage.include() {
        let example = pattern.to_string().replace('*', "a.a.a");
        assert!(pattern.covers(&example));
        assert_eq!(
            coverage.covers(&example),
            !coverage
                .exclude()
                .iter()
                .any(|nsid| nsid.as_str() == example)
        );
    }
    for nsid in coverage.exclude() {
        assert!(!coverage.covers(nsid.as_str()));
    }
}
