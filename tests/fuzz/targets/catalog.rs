//! Catalogs: what is read is written again as the same texts, and whatever they are, making tables of them ends.

use std::sync::LazyLock;

use tables::additions::{decode_catalog, encode_catalog, tables_of};
use tables::schema::Catalog;

static BUILTIN: LazyLock<Catalog> = LazyLock::new(Catalog::builtin);

/// Fuzzes `decode_catalog` and `tables_of`.
pub(crate) fn catalog(data: &[u8]) {
    let additions = match decode_catalog(data) {
        Ok(additions) => additions,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let again = decode_catalog(&encode_catalog(&additions));
    assert_eq!(again.ok().as_ref(), Some(&additions));
    match tables_of(&BUILTIN, &additions) {
        Ok(tables) => assert!(tables.tables().count() >= BUILTIN.tables().count()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
