//! Row 17: a small cache, changed at random.
//!
//! Whatever is changed, loading neither panics nor serves anything but what the plain reader
//! takes for sound, and serves all of that, in each framing.

use super::Case;
use super::image::{DAT2, Image, Listed, SECTOR, index, packed_gzip, packed_plain, u24};
use super::plain::{self, View};
use super::wire::{self, TONGUES, Tongue};
use fastrand::Rng;
use js5d::cache::{Store, block_on};
use js5d::catalog::{LoadError, LoadOptions, Readers, Snapshot, load};
use js5d::protocol::request::Frame;
use js5d::protocol::{Dialect, Profile};
use std::path::Path;

/// Mutations a case: a ring is made once for all of them.
const MUTATIONS: u64 = 100;

/// A case is a cache of its own and a hundred mutations of it.
pub(super) fn prepare() -> Case {
    let dir = tempfile::tempdir().expect("a directory for a cache");
    let mut on_disk = Image::default();
    Box::new(move |seed| {
        let mut rng = Rng::with_seed(seed);
        let sound = sound(&mut rng);
        block_on(async {
            for number in 0..=MUTATIONS {
                let mut image = sound.clone();
                if number > 0 {
                    mutate(&mut image, &mut rng);
                }
                image.write(dir.path(), &on_disk).map_err(|error| error.to_string())?;
                on_disk.clone_from(&image);
                let view = plain::view(&image);
                if number == 0 && view.len() != 19 {
                    return Err(format!("the plain reader takes {} of 19 groups", view.len()));
                }
                check(dir.path(), &view, readers(number))
                    .await
                    .map_err(|what| format!("mutation {number}: {what}"))?;
            }
            Ok(MUTATIONS)
        })
    })
}

/// Loads what is in `dir`, and compares what would be served with `view`.
pub(super) async fn check(dir: &Path, view: &View, readers: Readers) -> Result<(), String> {
    let options = LoadOptions { skip_corrupt: true, readers, ..LoadOptions::default() };
    let loaded = match Store::open(dir).await {
        Err(error) => Err(LoadError::Store(error)),
        Ok(store) => load(&store, options, &mut |_, _| {}).await,
    };
    match loaded {
        Ok(loaded) => compare(&loaded.snapshot, view),
        Err(LoadError::Store(_) | LoadError::Corrupt(_)) if view.is_empty() => Ok(()),
        Err(error) => Err(format!("{} groups are sound, and: {error}", view.len())),
    }
}

/// In one case of eight clients of every framing, none of which can ask for more groups than one of
/// build 550; that one alone else, as four arenas take four times as long.
pub(super) fn readers(case: u64) -> Readers {
    if !case.is_multiple_of(8) {
        return Readers::default();
    }
    let narrow = |tongue: &Tongue| Profile { frame: Frame::Four, ..tongue.profile().0 };
    Readers::new(TONGUES.iter().map(narrow).collect())
}

/// What is served must be what is in `view`, and no more.
pub(super) fn compare(snapshot: &Snapshot, view: &View) -> Result<(), String> {
    for (&id, container) in view {
        for framing in snapshot.framings() {
            let dialect = Dialect { framing, ..Dialect::BUILD_550 };
            let expected = wire::response_in(framing, id, container, false, 0);
            if snapshot.response_in(dialect, wire::name(id)) != Some(&expected[..]) {
                let name = framing.name();
                return Err(format!("{id:?} is sound, and not served as it is in {name}"));
            }
        }
    }
    for archive in 0..=u8::MAX {
        for (id, _) in snapshot.groups(archive) {
            if !view.contains_key(&(id.archive, id.group)) {
                return Err(format!("{id} is served, and not sound"));
            }
        }
    }
    Ok(())
}

/// Three archives of five groups, one of which has an index that is packed, and one an index
/// of the widest format.
fn sound(rng: &mut Rng) -> Image {
    let mut image = Image::default();
    for archive in [0, 3, 200] {
        let mut listed = Vec::new();
        let mut group = 0;
        for _ in 0..5 {
            let len = wire::any_scale(rng, 2000) + 8;
            let mut bytes = wire::container(len, rng);
            let (crc, version) = (plain::crc(&bytes), rng.u32(..));
            if rng.u8(..5) > 0 {
                bytes.extend((version as u16).to_be_bytes());
            }
            image.store(archive, group, &bytes);
            listed.push(Listed { group: group.into(), crc, version });
            group += rng.u16(1..20);
        }
        let mut payload = index(rng.u32(..), &listed);
        if archive == 3 {
            // Every distance is below 32,768, so that both formats look the same.
            payload[0] = 7;
        }
        let len = u32::try_from(payload.len()).expect("small");
        let container =
            if archive == 200 { packed_gzip(&payload, len) } else { packed_plain(&payload) };
        image.store(255, archive.into(), &container);
    }
    image
}

/// Changes a few bytes, mostly where they matter, or cuts, lengthens or takes away a file.
fn mutate(image: &mut Image, rng: &mut Rng) {
    for _ in 0..rng.u8(1..=4) {
        let names: Vec<_> = image.files.keys().cloned().collect();
        let name = if rng.bool() { DAT2 } else { &names[rng.usize(..names.len())] };
        if rng.u8(..100) == 0 {
            image.files.remove(name);
            return;
        }
        let Some(file) = image.files.get_mut(name).filter(|file| !file.is_empty()) else { return };
        let any = rng.usize(..file.len());
        let sectors = file.len() / SECTOR;
        match rng.u8(..12) {
            0 => file.truncate(any),
            1 => file.resize(file.len() + any.min(600), rng.u8(..)),
            2 | 3 => file[any] = rng.u8(..),
            4 => file[any] ^= 1 << rng.u8(..8),
            5 if sectors > 2 => {
                // A sector in the place of another.
                let (from, to) = (rng.usize(1..sectors), rng.usize(1..sectors));
                file.copy_within(from * SECTOR..(from + 1) * SECTOR, to * SECTOR);
            }
            6 if name != DAT2 => {
                // Another length or first sector in an idx entry.
                let place = any / 3 * 3;
                let value = u24(rng.usize(..3000));
                let end = file.len().min(place + 3);
                file[place..end].copy_from_slice(&value[..end - place]);
            }
            // A sector's header, or the beginning of a container or an index behind it.
            _ => {
                let place = (any / SECTOR * SECTOR + rng.usize(..64)).min(any);
                file[place] = if rng.bool() { rng.u8(..12) } else { rng.u8(..) };
            }
        }
    }
}
