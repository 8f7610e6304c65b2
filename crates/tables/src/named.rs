//! Which objects a version names: what the collector must spare.

use std::collections::HashSet;

use async_trait::async_trait;
use object_store::path::Path;
use storage::{Named, Root};

use crate::view::Tables;

#[async_trait]
impl Named for Tables {
    /// The parts, segments, packs, marks and catalog of `root`.
    async fn names(
        &self,
        root: &Root,
    ) -> Result<HashSet<Path>, Box<dyn std::error::Error + Send + Sync>> {
        let set = self.cache().segments(self.bucket(), root).await?;
        let mut names = HashSet::new();
        names.extend(
            set.catalog()
                .map(|catalog| Path::from(catalog.path.as_str())),
        );
        for part in set.parts() {
            names.insert(Path::from(part.reference.path.as_str()));
        }
        for entry in set.entries() {
            names.insert(Path::from(entry.path.as_str()));
            names.insert(Path::from(entry.index.path.as_str()));
            if let Some(marks) = &entry.marks {
                names.insert(Path::from(marks.bitmap.path.as_str()));
            }
        }
        Ok(names)
    }
}
