//! What responses must be, from a cache at hand: loaded, checked and framed as by the server.

use crate::engine::checker::Expected;
use js5d::cache::{Store, block_on};
use js5d::catalog::{DEMO_GROUPS, DEMO_SEED, Demo, LoadOptions, Loaded, Snapshot, load};
use js5d::protocol::GroupId;
use js5d::protocol::frame::{BLOCK_LEN, RESPONSE_HEADER_LEN};
use std::path::Path;

/// In place of a directory: the demo cache that the server makes up without one.
const DEMO: &str = "demo";

/// A cache to compare with.
#[derive(Debug)]
pub(crate) struct Reference {
    snapshot: Snapshot,
}

impl Reference {
    /// Loads a cache; the word `demo` is the demo cache.
    pub(crate) fn load(path: &Path) -> Result<Self, String> {
        // What is not sound is not served either, and shows as a group that is not in the cache.
        let options = LoadOptions { skip_corrupt: true, ..LoadOptions::default() };
        let mut silent = |_, _| {};
        let loaded = block_on(async {
            if path == Path::new(DEMO) && !path.exists() {
                return load(&Demo::new(DEMO_GROUPS, DEMO_SEED), options, &mut silent).await;
            }
            load(&Store::open(path).await?, options, &mut silent).await
        });
        let Loaded { snapshot, .. } = loaded.map_err(|e| e.to_string())?;
        Ok(Self { snapshot })
    }

    /// The checksum of a group's container, without what frames it: three bytes in front, and
    /// one in front of each further block.
    pub(crate) fn checksum(&self, id: GroupId) -> Option<u32> {
        let mut blocks = self.snapshot.response(id)?.chunks(BLOCK_LEN);
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(blocks.next()?.get(RESPONSE_HEADER_LEN..)?);
        blocks.for_each(|block| hasher.update(&block[1..]));
        Some(hasher.finalize())
    }
}

impl Expected for Reference {
    fn framed(&self, id: GroupId) -> Option<&[u8]> {
        self.snapshot.response(id)
    }
}
