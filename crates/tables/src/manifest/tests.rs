//! Bodies and parts: golden bytes, round trips, damage; how entries are regrouped.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use proptest::prelude::*;

use super::*;
use crate::segment::{ColumnStats, Marks, Scalar, SegmentKind, Span};

fn span(number: u64) -> Span {
    Span {
        path: format!("system/{number}.pack"),
        offset: number,
        length: 1 + number,
        checksum: [u8::try_from(number % 256).unwrap(); 32],
    }
}

fn entry(number: u64) -> SegmentEntry {
    let stats = ColumnStats {
        nulls: 1,
        min: Some(Scalar::Int(-1)),
        max: Some(Scalar::Int(300)),
    };
    SegmentEntry {
        path: format!("tables/t/{number:05}.parquet"),
        table: "system.cursors".to_owned(),
        kind: SegmentKind::Rows,
        partition: "h1".to_owned(),
        rows: 10,
        bytes: 1_000,
        checksum: [1; 32],
        created_us: 5,
        key_min: vec![1],
        key_max: vec![2],
        columns: BTreeMap::from([("cursor".to_owned(), stats)]),
        index: span(number),
        marks: None,
    }
}

fn entries(numbers: std::ops::Range<u64>) -> Vec<Arc<SegmentEntry>> {
    numbers.map(|number| Arc::new(entry(number))).collect()
}

fn reference(path: &str, segments: usize, bytes: u64) -> PartRef {
    PartRef {
        path: path.to_owned(),
        segments: u32::try_from(segments).unwrap(),
        bytes,
        checksum: [9; 32],
    }
}

fn part(path: &str, entries: Vec<Arc<SegmentEntry>>) -> Part {
    let bytes = encode_part(&entries).len() as u64;
    Part {
        reference: reference(path, entries.len(), bytes),
        entries: Arc::new(entries),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_body_is_the_one_that_buckets_hold() {
    let mut body = Body {
        parts: vec![reference("system/a.part", 2, 300)],
        catalog: None,
    };
    assert_eq!(hex(&encode_body(&body)), GOLDEN_BODY);
    assert_eq!(decode_body(&encode_body(&body)).unwrap(), body);
    body.catalog = Some(catalog());
    assert_eq!(hex(&encode_body(&body)), GOLDEN_BODY_WITH_CATALOG);
    assert_eq!(decode_body(&encode_body(&body)).unwrap(), body);
}

fn catalog() -> CatalogRef {
    CatalogRef {
        path: "system/a.catalog".to_owned(),
        bytes: 70,
        checksum: [8; 32],
        waiting: ["a.b.c", "a.b.d"].map(str::to_owned).into(),
    }
}

const GOLDEN_BODY_WITH_CATALOG: &str = "\
    080212360a0d73797374656d2f612e70617274100218ac022220090909090909090909090909090909090909090909090909\
    09090909090909091a440a1073797374656d2f612e636174616c6f6710461a20080808080808080808080808080808080808\
    08080808080808080808080808082205612e622e632205612e622e64";

const GOLDEN_BODY: &str = "\
    080112360a0d73797374656d2f612e70617274100218ac022220090909090909090909090909090909090909090909090909\
    0909090909090909";

#[test]
fn a_part_is_the_one_that_buckets_hold() {
    let mut marked = entry(3);
    marked.kind = SegmentKind::Tombstones;
    marked.marks = Some(Marks {
        bitmap: span(4),
        rows: 10,
    });
    let text = ColumnStats {
        nulls: 0,
        min: Some(Scalar::Text("a".to_owned())),
        max: Some(Scalar::Boolean(true)),
    };
    marked.columns.insert("text".to_owned(), text);
    let entries = vec![Arc::new(marked)];
    assert_eq!(hex(&encode_part(&entries)), GOLDEN_PART);
    assert_eq!(decode_part(&encode_part(&entries)).unwrap(), entries);
}

const GOLDEN_PART: &str = "\
    080112f5010a167461626c65732f742f30303030332e70617271756574120e73797374656d2e637572736f72731802220268\
    31280a30e8073a20010101010101010101010101010101010101010101010101010101010101010140054a01015201025a13\
    0a06637572736f7210011a020801220308d8045a0f0a04746578741a031201612202180162350a0d73797374656d2f332e70\
    61636b10031804222003030303030303030303030303030303030303030303030303030303030303036a390a350a0d737973\
    74656d2f342e7061636b1004180522200404040404040404040404040404040404040404040404040404040404040404100a";

fn scalar() -> impl Strategy<Value = Option<Scalar>> {
    prop::option::of(prop_oneof![
        any::<i64>().prop_map(Scalar::Int),
        ".{0,9}".prop_map(Scalar::Text),
        any::<bool>().prop_map(Scalar::Boolean),
    ])
}

fn any_span() -> impl Strategy<Value = Span> {
    (
        "[a-z/]{1,9}",
        0..1_u64 << 20,
        0..1_u64 << 20,
        any::<[u8; 32]>(),
    )
        .prop_map(|(path, offset, length, checksum)| Span {
            path,
            offset,
            length,
            checksum,
        })
}

prop_compose! {
    fn any_entry()(
        path in "[a-z/]{1,9}",
        table in "[a-z.]{0,9}",
        is_rows in any::<bool>(),
        rows in 2..=u64::from(u32::MAX),
        bytes in 0..1_u64 << 28,
        created_us in any::<i64>(),
        keys in prop::array::uniform2(prop::collection::vec(any::<u8>(), 0..9)),
        columns in prop::collection::btree_map("[a-z]{1,5}", (0..2_u64, scalar(), scalar()), 0..4),
        index in any_span(),
        marks in prop::option::of((any_span(), 1..=2_u64)),
    ) -> SegmentEntry {
        let [one, other] = keys;
        let columns = columns
            .into_iter()
            .map(|(name, (nulls, min, max))| (name, ColumnStats { nulls, min, max }))
            .collect();
        SegmentEntry {
            path,
            table,
            kind: if is_rows { SegmentKind::Rows } else { SegmentKind::Tombstones },
            partition: "2026-07".to_owned(),
            rows,
            bytes,
            checksum: [3; 32],
            created_us,
            key_min: one.clone().min(other.clone()),
            key_max: one.max(other),
            columns,
            index,
            marks: marks.map(|(bitmap, rows)| Marks { bitmap, rows }),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_part_comes_back_as_it_was_written(entries in prop::collection::vec(any_entry(), 0..6)) {
        let entries: Vec<_> = entries.into_iter().map(Arc::new).collect();
        let bytes = encode_part(&entries);
        prop_assert_eq!(decode_part(&bytes).unwrap(), entries);
    }

    #[test]
    fn a_body_comes_back_as_it_was_written(
        parts in prop::collection::btree_map("[a-z]{1,5}", (1..=1_000_u32, 0..1_u64 << 22), 0..6),
        bytes in 0..CATALOG_BYTES_MAX,
        waiting in prop::collection::btree_set("[a-z.]{0,9}", 0..4),
    ) {
        let parts: Vec<PartRef> = parts
            .into_iter()
            .map(|(path, (segments, bytes))| reference(&path, segments as usize, bytes))
            .collect();
        let catalog = (bytes % 2 == 0).then(|| CatalogRef { bytes, waiting, ..catalog() });
        let body = Body { parts, catalog };
        prop_assert_eq!(decode_body(&encode_body(&body)).unwrap(), body);
    }

    #[test]
    fn regrouping_keeps_every_entry_and_bounds_every_part(
        sizes in prop::collection::vec(1..1_200_u64, 0..5),
        added in 0..1_500_u64,
        removed in prop::collection::hash_set(0..6_000_u64, 0..20),
    ) {
        let mut next = 0;
        let mut parts = Vec::new();
        for size in sizes {
            let size = size.min(PART_SEGMENTS_MAX as u64);
            parts.push(part(&format!("p{next}"), entries(next..next + size)));
            next += size;
        }
        let removed: HashSet<String> = removed.into_iter().map(|n| entry(n).path).collect();
        let replace = |entry: &Arc<SegmentEntry>| {
            (!removed.contains(&entry.path)).then(|| Arc::clone(entry))
        };
        let regrouped = regroup(&parts, replace, entries(10_000..10_000 + added));
        let mut expected: Vec<String> = parts
            .iter()
            .flat_map(|part| part.entries.iter())
            .map(|entry| entry.path.clone())
            .filter(|path| !removed.contains(path))
            .collect();
        expected.extend(entries(10_000..10_000 + added).iter().map(|entry| entry.path.clone()));
        let kept = regrouped.kept.iter().flat_map(|kept| {
            let part = parts.iter().find(|part| part.reference == *kept).unwrap();
            part.entries.iter()
        });
        let written = regrouped.written.iter().flatten();
        let mut actual: Vec<String> = kept.chain(written).map(|e| e.path.clone()).collect();
        actual.sort_unstable();
        expected.sort_unstable();
        prop_assert_eq!(actual, expected);
        for written in &regrouped.written {
            prop_assert!(!written.is_empty() && written.len() <= PART_SEGMENTS_MAX);
            prop_assert!(encode_part(written).len() <= PART_BYTES_MAX);
        }
    }
}

#[test]
fn parts_of_large_entries_are_bounded_by_their_bytes() {
    let large: Vec<_> = (0..900)
        .map(|number| {
            let mut entry = entry(number);
            entry.key_max = vec![3; 20_000];
            Arc::new(entry)
        })
        .collect();
    let regrouped = regroup(&[], |entry| Some(Arc::clone(entry)), large);
    assert!(regrouped.written.len() > 4);
    assert_eq!(regrouped.written.iter().map(Vec::len).sum::<usize>(), 900);
    for written in &regrouped.written {
        assert!(encode_part(written).len() <= PART_BYTES_MAX);
    }
}

#[test]
fn an_untouched_part_larger_than_the_news_is_kept() {
    let parts = [
        part("large", entries(0..100)),
        part("small", entries(100..102)),
    ];
    let regrouped = regroup(&parts, |entry| Some(Arc::clone(entry)), entries(200..203));
    assert_eq!(regrouped.kept, [parts[0].reference.clone()]);
    assert_eq!(regrouped.written.len(), 1);
    assert_eq!(regrouped.written[0].len(), 5);
}

#[test]
fn damaged_bodies_are_refused() {
    let body = Body {
        parts: vec![reference("a", 2, 300)],
        catalog: Some(catalog()),
    };
    let whole = || proto::Body::decode(encode_body(&body)).unwrap();
    let refused = |change: &dyn Fn(&mut proto::Body)| {
        let mut body = whole();
        change(&mut body);
        decode_body(&body.encode_to_vec()).unwrap_err()
    };
    let field = |change: &dyn Fn(&mut proto::Body)| match refused(change) {
        FormatError::Field { field } => field,
        other => panic!("{other}"),
    };
    assert!(matches!(
        refused(&|body| body.format = 3),
        FormatError::Newer {
            format: 3,
            known: 2
        }
    ));
    assert_eq!(field(&|body| body.format = 0), "body.format");
    assert_eq!(field(&|body| body.parts[0].segments = 0), "part.segments");
    assert_eq!(
        field(&|body| body.parts[0].segments = 1_001),
        "part.segments"
    );
    assert_eq!(field(&|body| body.parts[0].bytes = u64::MAX), "part.bytes");
    assert_eq!(field(&|body| body.parts[0].path.clear()), "part.bytes");
    assert_eq!(
        field(&|body| body.parts[0].checksum.truncate(31)),
        "part.checksum"
    );
    assert_eq!(
        field(&|body| body.parts.push(body.parts[0].clone())),
        "part.path"
    );
    assert!(matches!(
        decode_body(&[0xff]),
        Err(FormatError::Protobuf { .. })
    ));
    assert_eq!(decode_body(&[]).unwrap(), Body::default());
    let of_catalog = |change: &dyn Fn(&mut proto::CatalogRef)| {
        field(&|body| change(body.catalog.as_mut().unwrap()))
    };
    assert_eq!(of_catalog(&|named| named.path.clear()), "catalog.bytes");
    assert_eq!(of_catalog(&|named| named.bytes = 1 << 40), "catalog.bytes");
    assert_eq!(
        of_catalog(&|named| named.checksum.truncate(31)),
        "catalog.checksum"
    );
    assert_eq!(
        of_catalog(&|named| named.waiting.reverse()),
        "catalog.waiting"
    );
}

#[test]
fn damaged_parts_are_refused() {
    let bytes = encode_part(&[Arc::new(SegmentEntry {
        marks: Some(Marks {
            bitmap: span(1),
            rows: 1,
        }),
        ..entry(1)
    })]);
    let whole = proto::Part::decode(bytes.clone()).unwrap();
    let refused = |change: &dyn Fn(&mut proto::Part)| {
        let mut part = whole.clone();
        change(&mut part);
        decode_part(&part.encode_to_vec()).unwrap_err()
    };
    assert!(matches!(
        refused(&|part| part.format = 2),
        FormatError::Newer {
            format: 2,
            known: 1
        }
    ));
    let segment = |change: &dyn Fn(&mut proto::Segment)| match refused(&|part: &mut proto::Part| {
        change(&mut part.segments[0])
    }) {
        FormatError::Field { field } => field,
        other => panic!("{other}"),
    };
    assert_eq!(segment(&|s| s.kind = 0), "segment.kind");
    assert_eq!(segment(&|s| s.kind = 9), "segment.kind");
    assert_eq!(segment(&|s| s.rows = 1 << 32), "segment.rows");
    assert_eq!(segment(&|s| s.bytes = u64::MAX), "segment.bytes");
    assert_eq!(segment(&|s| s.path.clear()), "segment.bytes");
    assert_eq!(segment(&|s| s.checksum.truncate(1)), "segment.checksum");
    assert_eq!(segment(&|s| s.key_max.clear()), "segment.key_min");
    assert_eq!(segment(&|s| s.columns[0].nulls = 11), "column.nulls");
    assert_eq!(segment(&|s| s.index = None), "segment.index");
    let index = |s: &mut proto::Segment, length| s.index.as_mut().unwrap().length = length;
    assert_eq!(segment(&|s| index(s, u64::MAX)), "segment.index");
    assert_eq!(
        segment(&|s| index(s, 1 << 40)),
        "segment.index",
        "an absurd length"
    );
    assert_eq!(
        segment(&|s| s.marks.as_mut().unwrap().rows = 11),
        "marks.rows"
    );
    assert_eq!(
        segment(&|s| s.marks.as_mut().unwrap().rows = 0),
        "marks.rows"
    );
    assert_eq!(
        segment(&|s| s.marks.as_mut().unwrap().bitmap = None),
        "marks.bitmap"
    );
    for length in 0..bytes.len() {
        let truncated = decode_part(&bytes[..length]);
        assert!(truncated.is_err() || truncated.unwrap().is_empty());
    }
    let crowded = proto::Part {
        format: 1,
        segments: vec![whole.segments[0].clone(); PART_SEGMENTS_MAX + 1],
    };
    assert!(decode_part(&crowded.encode_to_vec()).is_err());
    // A newer format may list what it likes, but nothing of four million entries is made to find that out.
    let empty = [0x12, 0].repeat(4_000_000);
    assert!(matches!(
        decode_part(&empty),
        Err(FormatError::Field {
            field: "part.segments"
        })
    ));
}
