//! Which segments to merge: size-tiered, within one table, kind and partition. Pure.
//!
//! A segment belongs to a tier by its live bytes; when a tier has [`MergeSettings::fan_in`] segments they are merged,
//! so a row is written again once for each tier that it climbs: with tiers a factor of `fan_in` apart, a logarithm.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::manifest::SegmentSet;
use crate::segment::{SegmentEntry, SegmentKind};

/// How segments are merged.
#[derive(Clone, Copy, Debug)]
pub struct MergeSettings {
    /// As many segments of one tier are merged.
    pub fan_in: usize,
    /// Segments below this size are one tier.
    pub tier_bytes_min: u64,
    /// About how large a segment becomes; a segment of that size is merged again only for its marks.
    pub segment_bytes: u64,
    /// A merge reads at most this much.
    pub merge_bytes_max: u64,
    /// A segment with at least this share of marked rows, per cent, is rewritten alone.
    pub marked_percent: u64,
}

impl Default for MergeSettings {
    fn default() -> Self {
        Self {
            fan_in: 8,
            // About what a flush of a quiet source leaves: with a first tier that is much wider, what is merged is merged
            // again and again with the next few flushes.
            tier_bytes_min: 32 << 10,
            segment_bytes: 128 << 20,
            // A merge holds its inputs and its outputs in memory.
            merge_bytes_max: 256 << 20,
            marked_percent: 30,
        }
    }
}

/// One merge.
#[derive(Clone, Debug, PartialEq)]
pub struct MergePlan {
    /// The table's physical name.
    pub table: String,
    /// Rows or tombstones.
    pub kind: SegmentKind,
    /// The partition.
    pub partition: String,
    /// The segments to merge.
    pub inputs: Vec<Arc<SegmentEntry>>,
}

/// The merges that are due, smallest first: they are cheap, and they are what makes queries open many files.
#[must_use]
pub fn plan(set: &SegmentSet, settings: &MergeSettings) -> Vec<MergePlan> {
    let mut groups: BTreeMap<(&str, SegmentKind, &str), Vec<&Arc<SegmentEntry>>> = BTreeMap::new();
    for entry in set.entries() {
        groups
            .entry((&entry.table, entry.kind, &entry.partition))
            .or_default()
            .push(entry);
    }
    let mut plans = Vec::new();
    for ((table, kind, partition), entries) in groups {
        for inputs in plan_group(entries, settings) {
            plans.push(MergePlan {
                table: table.to_owned(),
                kind,
                partition: partition.to_owned(),
                inputs,
            });
        }
    }
    plans.sort_by_key(|plan| plan.inputs.iter().map(|entry| entry.bytes).sum::<u64>());
    plans
}

fn plan_group(
    entries: Vec<&Arc<SegmentEntry>>,
    settings: &MergeSettings,
) -> Vec<Vec<Arc<SegmentEntry>>> {
    let mut tiers: BTreeMap<u32, Vec<&Arc<SegmentEntry>>> = BTreeMap::new();
    let mut plans = Vec::new();
    for entry in entries {
        if is_worn(entry, settings) {
            plans.push(vec![Arc::clone(entry)]);
        } else if live_bytes(entry) < settings.segment_bytes / 2 {
            tiers
                .entry(tier(live_bytes(entry), settings))
                .or_default()
                .push(entry);
        }
    }
    for mut tier in tiers.into_values() {
        // By age, so that which segments are merged does not depend on the order of a listing.
        tier.sort_by(|a, b| a.path.cmp(&b.path));
        for chunk in tier.chunks(settings.fan_in.max(2)) {
            if chunk.len() == settings.fan_in.max(2) {
                plans.push(within(chunk, settings.merge_bytes_max));
            }
        }
    }
    plans.retain(|inputs| !inputs.is_empty());
    plans
}

/// As many of the segments as fit.
fn within(entries: &[&Arc<SegmentEntry>], bytes_max: u64) -> Vec<Arc<SegmentEntry>> {
    let mut bytes = 0;
    let fitting = entries.iter().take_while(|entry| {
        bytes += entry.bytes;
        bytes <= bytes_max
    });
    let fitting: Vec<_> = fitting.map(|entry| Arc::clone(entry)).collect();
    if fitting.len() < 2 {
        Vec::new()
    } else {
        fitting
    }
}

fn is_worn(entry: &SegmentEntry, settings: &MergeSettings) -> bool {
    let marked = entry.marks.as_ref().map_or(0, |marks| marks.rows);
    // A few rows are not worth a rewrite, however large their share.
    marked >= 1_024
        && marked.saturating_mul(100) >= entry.rows.saturating_mul(settings.marked_percent)
}

fn live_bytes(entry: &SegmentEntry) -> u64 {
    let live =
        u128::from(entry.bytes) * u128::from(entry.live_rows()) / u128::from(entry.rows.max(1));
    u64::try_from(live).unwrap_or(u64::MAX)
}

fn tier(bytes: u64, settings: &MergeSettings) -> u32 {
    let mut tier = 0;
    let mut bound = settings.tier_bytes_min.max(1);
    while bytes >= bound {
        bound = bound.saturating_mul(settings.fan_in.max(2) as u64);
        tier += 1;
    }
    tier
}

#[cfg(test)]
mod tests;
