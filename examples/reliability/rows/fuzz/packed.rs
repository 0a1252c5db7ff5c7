//! Targets of packed caches: a file of any bytes is listed and read, or refused in words.
//!
//! The tar has a model: the same tar in gzip must come out the same.

use super::cache::Shown;
use flate2::{Compression, write::GzEncoder};
use js5d::cache::{Store, StoreError, StoredGroup, block_on};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;

thread_local! {
    /// A directory for all executions.
    static DIR: tempfile::TempDir = tempfile::tempdir().expect("a directory for a cache");
}

/// What came of the groups: their bytes, or nothing.
type Groups = BTreeMap<(u8, u32), Option<Vec<u8>>>;

/// A zip.
pub(super) fn zip(data: &[u8]) {
    DIR.with(|dir| drop(read(&dir.path().join("zip"), data)));
}

/// A tar, and the same in gzip.
pub(super) fn tar(data: &[u8]) {
    DIR.with(|dir| {
        let plain = read(&dir.path().join("tar"), data);
        // What does not look like a tar may be anything else.
        if plain.as_ref().is_err_and(StoreError::is_another_kind) {
            return;
        }
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(data).expect("memory");
        let packed = read(&dir.path().join("tar.gz"), &encoder.finish().expect("memory"));
        match (plain, packed) {
            (Ok(plain), Ok(packed)) => assert_eq!(plain, packed),
            (Err(_), Err(_)) => {}
            (plain, packed) => panic!("{plain:?} is not {packed:?}"),
        }
    });
}

fn read(path: &Path, data: &[u8]) -> Result<Groups, StoreError> {
    fs::write(path, data).expect("a directory that can be written");
    let outcome = block_on(async {
        let store = Store::open(path).await?;
        let mut shown = Shown::default();
        store.read_all(&mut shown).await?;
        Ok((store.groups().to_vec(), shown))
    });
    let (groups, shown) = outcome.inspect_err(|error: &StoreError| {
        assert!(error.to_string().starts_with(&path.display().to_string()), "{error}");
    })?;
    assert_eq!(shown.ended.len(), groups.len(), "each group ends");
    let mut found = Groups::new();
    for (slot, group) in groups.iter().enumerate() {
        let StoredGroup { archive, group, len_bytes } = *group;
        let bytes = shown.ended[&slot].is_ok().then(|| shown.bytes[&slot].clone());
        if let Some(bytes) = &bytes {
            assert_eq!(bytes.len(), len_bytes as usize, "{archive}/{group}");
        }
        assert!(
            found.insert((archive, group), bytes).is_none(),
            "{archive}/{group} is there twice"
        );
    }
    Ok(found)
}
