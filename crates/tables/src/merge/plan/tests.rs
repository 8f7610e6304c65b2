use super::*;
use crate::manifest::{Part, PartRef};
use crate::segment::{Marks, Span};

fn span() -> Span {
    Span {
        path: "system/pack".to_owned(),
        offset: 0,
        length: 1,
        checksum: [0; 32],
    }
}

fn entry(number: usize, partition: &str, bytes: u64, rows: u64, marked: u64) -> Arc<SegmentEntry> {
    Arc::new(SegmentEntry {
        path: format!("tables/t/{number:05}.parquet"),
        table: "t".to_owned(),
        kind: SegmentKind::Rows,
        partition: partition.to_owned(),
        rows,
        bytes,
        checksum: [0; 32],
        created_us: 0,
        key_min: vec![0],
        key_max: vec![1],
        columns: BTreeMap::new(),
        index: span(),
        marks: (marked > 0).then(|| Marks {
            bitmap: span(),
            rows: marked,
        }),
    })
}

fn set(entries: Vec<Arc<SegmentEntry>>) -> SegmentSet {
    let reference = PartRef {
        path: "system/part".to_owned(),
        segments: 1,
        bytes: 1,
        checksum: [0; 32],
    };
    SegmentSet::new(
        vec![Part {
            reference,
            entries: Arc::new(entries),
        }],
        None,
    )
}

#[test]
fn a_full_tier_is_merged_and_one_that_is_not_waits() {
    let settings = MergeSettings::default();
    let small: Vec<_> = (0..8)
        .map(|number| entry(number, "2026-07", 1_000, 10, 0))
        .collect();
    let plans = plan(&set(small.clone()), &settings);
    assert_eq!(plans.len(), 1);
    assert_eq!(plans[0].inputs.len(), 8);
    assert!(plan(&set(small[..7].to_vec()), &settings).is_empty());
}

#[test]
fn partitions_and_tiers_are_not_mixed() {
    let mut entries: Vec<_> = (0..4)
        .map(|number| entry(number, "2026-07", 1_000, 10, 0))
        .collect();
    entries.extend((4..8).map(|number| entry(number, "2026-08", 1_000, 10, 0)));
    entries.extend((8..12).map(|number| entry(number, "2026-07", 20 << 20, 10, 0)));
    assert!(plan(&set(entries), &MergeSettings::default()).is_empty());
}

#[test]
fn a_merge_stays_below_its_bound() {
    let settings = MergeSettings {
        merge_bytes_max: 100 << 20,
        ..MergeSettings::default()
    };
    let entries = (0..8)
        .map(|number| entry(number, "2026-07", 30 << 20, 1_000_000, 0))
        .collect();
    let plans = plan(&set(entries), &settings);
    assert_eq!(plans.len(), 1);
    assert_eq!(plans[0].inputs.len(), 3);
}

#[test]
fn a_worn_segment_is_rewritten_alone() {
    let entries = vec![
        entry(0, "2026-07", 128 << 20, 10_000, 5_000),
        entry(1, "2026-07", 128 << 20, 10_000, 500),
    ];
    let plans = plan(&set(entries), &MergeSettings::default());
    assert_eq!(plans.len(), 1);
    assert_eq!(plans[0].inputs.len(), 1);
}
