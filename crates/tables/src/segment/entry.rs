//! What a part says of one segment: enough to plan a query without touching the object store.

use std::collections::BTreeMap;

use storage::OBJECT_BYTES_MAX;

use crate::error::FormatError;
use crate::proto;

/// Bytes inside an object, with their checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The object.
    pub path: String,
    /// Where they start.
    pub offset: u64,
    /// How many.
    pub length: u64,
    /// Their BLAKE3.
    pub checksum: [u8; 32],
}

/// What a segment holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SegmentKind {
    /// Rows: live, less those that are marked.
    Rows,
    /// Keys that were deleted. No query scans them.
    Tombstones,
}

impl SegmentKind {
    /// The kind's name in `system.segments`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::Tombstones => "tombstones",
        }
    }
}

/// A value of a column, as statistics keep it. Timestamps are µs since the epoch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd)]
pub enum Scalar {
    /// An integer or a timestamp.
    Int(i64),
    /// A text.
    Text(String),
    /// A boolean.
    Boolean(bool),
}

/// What is known of a column in one segment, marked rows included: bounds, exact only where no row is marked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ColumnStats {
    /// Nulls among the rows.
    pub nulls: u64,
    /// The smallest value, where it is kept.
    pub min: Option<Scalar>,
    /// The largest value, where it is kept.
    pub max: Option<Scalar>,
}

/// One segment.
#[derive(Clone, Debug, PartialEq)]
pub struct SegmentEntry {
    /// The Parquet object.
    pub path: String,
    /// The table's physical name.
    pub table: String,
    /// What it holds.
    pub kind: SegmentKind,
    /// Its partition, a function of its rows' keys.
    pub partition: String,
    /// Its rows, marked ones included.
    pub rows: u64,
    /// The object's size.
    pub bytes: u64,
    /// The object's BLAKE3.
    pub checksum: [u8; 32],
    /// When it was made, µs since the epoch.
    pub created_us: i64,
    /// Its first key.
    pub key_min: Vec<u8>,
    /// Its last key.
    pub key_max: Vec<u8>,
    /// Statistics by column name; nested columns have none.
    pub columns: BTreeMap<String, ColumnStats>,
    /// Its index in a pack.
    pub index: Span,
    /// Its marked rows.
    pub marks: Option<Marks>,
}

/// Where a segment's marks are, and how many rows they name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marks {
    /// The bitmap.
    pub bitmap: Span,
    /// Marked rows.
    pub rows: u64,
}

impl SegmentEntry {
    /// Rows that are not marked.
    #[must_use]
    pub fn live_rows(&self) -> u64 {
        self.rows
            .saturating_sub(self.marks.as_ref().map_or(0, |marks| marks.rows))
    }

    /// Whether `key` lies between the first and the last key.
    #[must_use]
    pub fn spans(&self, key: &[u8]) -> bool {
        self.key_min.as_slice() <= key && key <= self.key_max.as_slice()
    }

    /// Whether some key of the segment may start with `prefix`.
    #[must_use]
    pub fn spans_prefix(&self, prefix: &[u8]) -> bool {
        (self.key_max.as_slice() >= prefix)
            && (self.key_min.as_slice() < prefix || self.key_min.starts_with(prefix))
    }

    pub(crate) fn to_proto(&self) -> proto::Segment {
        proto::Segment {
            path: self.path.clone(),
            table: self.table.clone(),
            kind: match self.kind {
                SegmentKind::Rows => proto::SegmentKind::Rows,
                SegmentKind::Tombstones => proto::SegmentKind::Tombstones,
            } as i32,
            partition: self.partition.clone(),
            rows: self.rows,
            bytes: self.bytes,
            checksum: self.checksum.to_vec().into(),
            created_us: self.created_us,
            key_min: self.key_min.clone().into(),
            key_max: self.key_max.clone().into(),
            columns: self
                .columns
                .iter()
                .map(|(name, stats)| stats.to_proto(name))
                .collect(),
            index: Some(self.index.to_proto()),
            marks: self.marks.as_ref().map(|marks| proto::Marks {
                bitmap: Some(marks.bitmap.to_proto()),
                rows: marks.rows,
            }),
        }
    }

    pub(crate) fn from_proto(segment: proto::Segment) -> Result<Self, FormatError> {
        let kind = match proto::SegmentKind::try_from(segment.kind) {
            Ok(proto::SegmentKind::Rows) => SegmentKind::Rows,
            Ok(proto::SegmentKind::Tombstones) => SegmentKind::Tombstones,
            _ => {
                return Err(FormatError::Field {
                    field: "segment.kind",
                });
            }
        };
        let marks = match segment.marks {
            None => None,
            Some(marks) => {
                let bitmap = Span::from_proto(marks.bitmap, "marks.bitmap")?;
                if marks.rows == 0 || marks.rows > segment.rows {
                    return Err(FormatError::Field {
                        field: "marks.rows",
                    });
                }
                Some(Marks {
                    bitmap,
                    rows: marks.rows,
                })
            }
        };
        if segment.rows == 0 || segment.rows > u64::from(u32::MAX) {
            return Err(FormatError::Field {
                field: "segment.rows",
            });
        }
        if segment.key_min > segment.key_max {
            return Err(FormatError::Field {
                field: "segment.key_min",
            });
        }
        if segment.path.is_empty() || segment.bytes > OBJECT_BYTES_MAX {
            return Err(FormatError::Field {
                field: "segment.bytes",
            });
        }
        let mut columns = BTreeMap::new();
        for column in segment.columns {
            if column.nulls > segment.rows {
                return Err(FormatError::Field {
                    field: "column.nulls",
                });
            }
            columns.insert(
                column.name,
                ColumnStats {
                    nulls: column.nulls,
                    min: column.min.and_then(Scalar::from_proto),
                    max: column.max.and_then(Scalar::from_proto),
                },
            );
        }
        Ok(Self {
            path: segment.path,
            table: segment.table,
            kind,
            partition: segment.partition,
            rows: segment.rows,
            bytes: segment.bytes,
            checksum: checksum(&segment.checksum, "segment.checksum")?,
            created_us: segment.created_us,
            key_min: segment.key_min.to_vec(),
            key_max: segment.key_max.to_vec(),
            columns,
            index: Span::from_proto(segment.index, "segment.index")?,
            marks,
        })
    }
}

impl Span {
    pub(crate) fn to_proto(&self) -> proto::Span {
        proto::Span {
            path: self.path.clone(),
            offset: self.offset,
            length: self.length,
            checksum: self.checksum.to_vec().into(),
        }
    }

    fn from_proto(span: Option<proto::Span>, field: &'static str) -> Result<Self, FormatError> {
        let span = span.ok_or(FormatError::Field { field })?;
        // Every object is one PUT of bounded size, so an absurd length is never asked of the store.
        let end = span.offset.checked_add(span.length);
        if span.path.is_empty() || end.is_none_or(|end| end > OBJECT_BYTES_MAX) {
            return Err(FormatError::Field { field });
        }
        Ok(Self {
            path: span.path,
            offset: span.offset,
            length: span.length,
            checksum: checksum(&span.checksum, field)?,
        })
    }
}

impl ColumnStats {
    fn to_proto(&self, name: &str) -> proto::ColumnStats {
        proto::ColumnStats {
            name: name.to_owned(),
            nulls: self.nulls,
            min: self.min.as_ref().map(Scalar::to_proto),
            max: self.max.as_ref().map(Scalar::to_proto),
        }
    }
}

impl Scalar {
    fn to_proto(&self) -> proto::Scalar {
        let value = match self {
            Self::Int(value) => proto::scalar::Value::Int(*value),
            Self::Text(value) => proto::scalar::Value::Text(value.clone()),
            Self::Boolean(value) => proto::scalar::Value::Boolean(*value),
        };
        proto::Scalar { value: Some(value) }
    }

    fn from_proto(scalar: proto::Scalar) -> Option<Self> {
        Some(match scalar.value? {
            proto::scalar::Value::Int(value) => Self::Int(value),
            proto::scalar::Value::Text(value) => Self::Text(value),
            proto::scalar::Value::Boolean(value) => Self::Boolean(value),
        })
    }
}

/// A BLAKE3 of 32 bytes.
pub(crate) fn checksum(bytes: &[u8], field: &'static str) -> Result<[u8; 32], FormatError> {
    bytes.try_into().map_err(|_| FormatError::Field { field })
}
