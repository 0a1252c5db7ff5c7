//! The right responses, made of a local cache that is loaded, checked and framed as by the server.

use crate::engine::checker::Expected;
use js5d::cache::{Store, block_on};
use js5d::catalog::{DEMO_GROUPS, DEMO_SEED, Demo, LoadOptions, Loaded, Readers, Snapshot, load};
use js5d::protocol::{Dialect, GroupId, MASTER_INDEX, Profile};
use std::path::Path;

/// In place of a directory: the demo cache that the server makes up without one.
const DEMO: &str = "demo";

/// A cache to compare with.
#[derive(Debug)]
pub(crate) struct Reference {
    snapshot: Snapshot,
    dialect: Dialect,
}

/// The byte 10 and the digest at the end of a master index that has them.
const DIGEST_LEN: usize = 65;

impl Reference {
    /// Loads a cache, as it is served to clients of `profile`; the word `demo` is the demo cache.
    pub(crate) fn load(path: &Path, profile: &Profile) -> Result<Self, String> {
        // What is not sound is not served either, and shows as a group that is not in the cache.
        let readers = Readers::new(vec![profile.clone()]);
        let options = LoadOptions { skip_corrupt: true, readers, ..LoadOptions::default() };
        let mut silent = |_, _| {};
        let loaded = block_on(async {
            if path == Path::new(DEMO) && !path.exists() {
                return load(&Demo::new(DEMO_GROUPS, DEMO_SEED), options, &mut silent).await;
            }
            load(&Store::open(path).await?, options, &mut silent).await
        });
        let Loaded { snapshot, .. } = loaded.map_err(|e| e.to_string())?;
        Ok(Self { snapshot, dialect: profile.dialect() })
    }

    /// The checksum of a group's container, without what frames it.
    pub(crate) fn checksum(&self, id: GroupId) -> Option<u32> {
        let framed = self.framed(id)?;
        let mut hasher = crc32fast::Hasher::new();
        self.dialect.framing.container_pieces(framed).for_each(|piece| hasher.update(piece));
        Some(hasher.finalize())
    }
}

impl Expected for Reference {
    fn framed(&self, id: GroupId) -> Option<&[u8]> {
        self.snapshot.response_in(self.dialect, id)
    }

    /// A master index may be signed with a key that is not known here. One without a signature may
    /// go on behind its last entry, where no client looks; RuneJS sends zeros there.
    fn free_from(&self, id: GroupId, wire_bytes: usize) -> Option<usize> {
        let framed = self.framed(id).filter(|framed| framed.len() != wire_bytes)?;
        let (is_master, is_longer) = (id == MASTER_INDEX, wire_bytes > framed.len());
        let has_digests = self.dialect.master.has_digests();
        if !is_master || !(has_digests || is_longer) {
            return None;
        }
        let pieces = self.dialect.framing.container_pieces(framed);
        let len = pieces.map(<[u8]>::len).sum::<usize>();
        len.checked_sub(if has_digests { DIGEST_LEN } else { 0 })
    }
}
