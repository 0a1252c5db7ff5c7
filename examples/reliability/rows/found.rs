//! Row 27: caches like those in use.
//!
//! Half of the maps are encrypted, versions are missing or followed by other bytes, groups are
//! stale, missing, or stored and not listed, a last sector names a next one, an archive has no
//! index. The state of each group is chosen when the cache is made, so it is known which groups
//! must be served and which must be named. The same groups are written as a dat2 store and as flat
//! files.

use super::Case;
use super::image::{DAT2, Image, Listed, SECTOR, idx, index, packed_gzip, packed_plain};
use super::mutations::{compare, readers};
use super::plain::{self, View};
use super::wire;
use fastrand::Rng;
use js5d::cache::{Store, block_on};
use js5d::catalog::{LoadError, LoadOptions, Loaded, Readers, load};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Caches a case: a ring is made once for all of them.
const CACHES: u64 = 20;

/// The archive of the maps.
const MAPS: u8 = 5;

/// What is named: archive and group, or a whole archive.
type Named = BTreeSet<(Option<u8>, Option<u32>)>;

/// A cache, and what must become of it.
#[derive(Default)]
struct Found {
    stored: BTreeMap<(u8, u16), Vec<u8>>,
    served: View,
    named: Named,
    /// Groups whose last sector names a next one, and groups that have a chain of nothing.
    next_named: Vec<(u8, u16)>,
    chain_lost: Vec<(u8, u16)>,
}

/// A case is a few caches, each read from two stores.
pub(super) fn prepare() -> Case {
    let dir = tempfile::tempdir().expect("a directory for caches");
    let (dat2, flat) = (dir.path().join("dat2"), dir.path().join("flat"));
    fs::create_dir_all(&dat2).expect("a directory");
    let mut on_disk = Image::default();
    Box::new(move |seed| {
        let _whole = &dir;
        let mut rng = Rng::with_seed(seed);
        for number in 0..CACHES {
            let mut found = make(&mut rng);
            write_flat(&flat, &found.stored).map_err(|error| error.to_string())?;
            let told = |kind, what| format!("cache {number}, {kind}: {what}");
            block_on(check(&flat, &found, readers(seed))).map_err(|what| told("flat", what))?;
            let image = image(&mut found, &mut rng);
            image.write(&dat2, &on_disk).map_err(|error| error.to_string())?;
            on_disk.clone_from(&image);
            block_on(check(&dat2, &found, readers(seed))).map_err(|what| told("dat2", what))?;
            if plain::view(&image) != found.served {
                return Err(told("dat2", "the plain reader sees another cache".into()));
            }
        }
        Ok(CACHES)
    })
}

/// Four archives of up to twelve groups.
fn make(rng: &mut Rng) -> Found {
    let mut found = Found::default();
    let mut master = Vec::new();
    for archive in [2, MAPS, 9, 200] {
        let mut listed = Vec::new();
        let mut group = 0;
        // Archive 2 is as it should be, so that there is always something to serve.
        for _ in 0..rng.u8(1..=12) {
            group += rng.u16(1..5);
            listed.extend(found.group(archive, group, archive != 2, rng));
        }
        let payload = index(rng.u32(..), &listed);
        let version = u32::from_be_bytes([payload[1], payload[2], payload[3], payload[4]]);
        let len = u32::try_from(payload.len()).expect("small");
        let container =
            if rng.bool() { packed_plain(&payload) } else { packed_gzip(&payload, len) };
        if archive == 9 && rng.u8(..8) == 0 {
            found.lose_index(archive);
            continue;
        }
        master.resize(usize::from(archive) * 8, 0);
        master.extend(plain::crc(&container).to_be_bytes());
        master.extend(version.to_be_bytes());
        let tail = tail(rng);
        found.stored.insert((255, archive.into()), [&container[..], &tail].concat());
        found.served.insert((255, archive.into()), container);
    }
    if rng.bool() {
        found.stored.insert((255, 255), wire::container(50, rng));
    }
    found.served.insert((255, 255), packed_plain(&master));
    found
}

impl Found {
    /// Makes a group and its fate. What the index says of it, if it is listed.
    fn group(&mut self, archive: u8, group: u16, odd: bool, rng: &mut Rng) -> Option<Listed> {
        let id = (archive, group);
        let mut container = wire::container(8 + wire::any_scale(rng, 3000), rng);
        if archive == MAPS && group % 2 == 1 {
            // Encrypted: the type and the compressed length are true, the rest is noise.
            let len = rng.u16(1..2000);
            container = vec![rng.u8(1..=2), 0, 0, (len >> 8) as u8, len as u8];
            container.extend((0..len + 4).map(|_| rng.u8(..)));
        }
        let (crc, version) = (plain::crc(&container), rng.u32(..));
        let trailer = (version as u16).to_be_bytes();
        let mut stored = [&container[..], &trailer].concat();
        let named = (Some(archive), Some(u32::from(group)));
        match rng.u8(..if odd { 16 } else { 9 }) {
            0 => stored = container.clone(),
            1 => stored = [&container[..], &tail(rng)].concat(),
            2 => self.next_named.push(id),
            // A byte that the client would miss.
            9 => {
                let at = rng.usize(5..container.len());
                stored[at] ^= rng.u8(1..);
                self.named.insert(named);
            }
            // An earlier version of the group, which has another checksum.
            10 => {
                stored = wire::container(8 + wire::any_scale(rng, 3000), rng);
                stored.extend(rng.u16(..).to_be_bytes());
                self.named.insert(named);
            }
            // The right bytes under a version that is another's.
            11 => {
                stored[container.len()] ^= 1;
                self.named.insert(named);
            }
            12 => {
                stored[0] = rng.u8(4..);
                self.named.insert(named);
            }
            // Listed, not stored.
            13 => return Some(Listed { group: group.into(), crc, version }),
            // Stored, not listed: sound, or what nobody can read.
            fate @ (14 | 15) => {
                if fate == 15 {
                    stored.truncate(rng.usize(1..9));
                    self.chain_lost.push(id);
                }
                self.stored.insert(id, stored);
                return None;
            }
            _ => {}
        }
        self.stored.insert(id, stored);
        if !self.named.contains(&named) {
            self.served.insert((id.0, id.1.into()), container);
        }
        Some(Listed { group: group.into(), crc, version })
    }

    /// Nothing vouches for the archive: its groups are named as one.
    fn lose_index(&mut self, archive: u8) {
        self.named.retain(|(of, _)| *of != Some(archive));
        self.served.retain(|(of, _), _| *of != archive);
        if self.stored.keys().any(|(of, _)| *of == archive) {
            self.named.insert((Some(archive), None));
        }
    }
}

/// Bytes behind a container that are no version: any number but two.
fn tail(rng: &mut Rng) -> Vec<u8> {
    let len = [0, 1, 3, 4, 600][rng.usize(..5)];
    (0..len).map(|_| rng.u8(..)).collect()
}

/// The groups as a dat2 store, with what only such a store can have.
fn image(found: &mut Found, rng: &mut Rng) -> Image {
    let mut image = Image::default();
    for (&(archive, group), stored) in &found.stored {
        image.store(archive, group, stored);
        let sectors = image.file(DAT2).len() / SECTOR;
        if found.next_named.contains(&(archive, group)) {
            image.patch(sectors - 1, 4, &[rng.u8(..), rng.u8(..), rng.u8(..)]);
        }
        if found.chain_lost.contains(&(archive, group)) {
            let entries = [(0, sectors - 1), (9, 0), (700, sectors - 1), (9, 0xFF_FFFF)];
            let (len, first) = entries[rng.usize(..4)];
            image.list(archive, group, len, first);
            // Without an index nobody can know that it does not matter.
            if !found.stored.contains_key(&(255, archive.into())) {
                found.named.insert((Some(archive), Some(group.into())));
            }
        }
    }
    if rng.u8(..4) == 0 {
        let cut = [2, MAPS][rng.usize(..2)];
        image.files.entry(idx(cut)).or_default().extend(vec![0; rng.usize(1..6)]);
        found.named.insert((Some(cut), None));
    }
    image
}

/// The groups as flat files, in place of those that were there.
fn write_flat(dir: &Path, stored: &BTreeMap<(u8, u16), Vec<u8>>) -> std::io::Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    for ((archive, group), bytes) in stored {
        let archive = dir.join(archive.to_string());
        fs::create_dir_all(&archive)?;
        fs::write(archive.join(format!("{group}.dat")), bytes)?;
    }
    Ok(())
}

/// What is damaged is named, all of it and nothing else, and the rest is served whole.
async fn check(dir: &Path, found: &Found, readers: Readers) -> Result<(), String> {
    let store = Store::open(dir).await.map_err(|error| error.to_string())?;
    let skipping = LoadOptions { skip_corrupt: true, readers, ..LoadOptions::default() };
    let loaded = load(&store, skipping, &mut |_, _| {}).await;
    let Loaded { snapshot, report } = loaded.map_err(|error| error.to_string())?;
    let named: Named = report.problems().iter().map(|it| (it.archive, it.group)).collect();
    if named != found.named {
        return Err(format!("named are {named:?}, damaged are {:?}:\n{report}", found.named));
    }
    compare(&snapshot, &found.served)?;
    match load(&store, LoadOptions::default(), &mut |_, _| {}).await {
        Ok(_) if named.is_empty() => Ok(()),
        Err(LoadError::Corrupt(_)) if !named.is_empty() => Ok(()),
        Ok(_) => Err("it is damaged, and taken as a whole".into()),
        Err(error) => Err(format!("it is sound, and refused: {error}")),
    }
}
