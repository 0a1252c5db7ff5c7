//! What the stores promise. Every store here is laid out by [`Image`] and read a second time
//! by [`Image::plain`], which know nothing of the code under test.

mod broken;
mod found;
mod packed;
mod random;
mod sound;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use super::{
    GroupError, GroupVisitor, Reading, Store, StoreError, StoredGroup, block_on, block_on_by,
};

/// A store as the bytes of its files, laid out by hand.
#[derive(Clone, Debug, Default)]
struct Image {
    files: BTreeMap<String, Vec<u8>>,
    legacy: bool,
}

impl Image {
    /// A dat2 file of a first sector without a group, and these.
    fn dat2(sectors: &[Vec<u8>]) -> Self {
        Self::default().with("main_file_cache.dat2", [vec![0; 520], sectors.concat()].concat())
    }

    fn with(mut self, name: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.files.insert(name.to_owned(), bytes.into());
        self
    }

    /// Lists a group in an idx file.
    fn listing(mut self, archive: u8, group: usize, len_bytes: u32, sector: u32) -> Self {
        let idx = self.files.entry(format!("main_file_cache.idx{archive}")).or_default();
        idx.resize(idx.len().max(group * 6 + 6), 0);
        idx[group * 6..group * 6 + 3].copy_from_slice(&len_bytes.to_be_bytes()[1..]);
        idx[group * 6 + 3..group * 6 + 6].copy_from_slice(&sector.to_be_bytes()[1..]);
        self
    }

    fn write(&self, dir: &Path) {
        for (name, bytes) in &self.files {
            let path = dir.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            // Not emptied first: some file systems then wait for the disk on every close.
            let mut file =
                File::options().write(true).create(true).truncate(false).open(path).unwrap();
            file.write_all(bytes).unwrap();
            file.set_len(bytes.len() as u64).unwrap();
        }
    }

    fn read(&self) -> Outcome {
        let dir = tempfile::tempdir().unwrap();
        self.write(dir.path());
        read(dir.path()).unwrap()
    }

    /// Follows a chain sector by sector. `None` if anything about it is wrong.
    fn plain(&self, archive: u8, group: u32) -> Option<Vec<u8>> {
        let idx = &self.files[&format!("main_file_cache.idx{archive}")];
        let entry = idx.get(group as usize * 6..group as usize * 6 + 6)?;
        let music = self.files.get("main_file_cache.dat2m").filter(|_| archive == 40);
        let name = if self.legacy { "main_file_cache.dat" } else { "main_file_cache.dat2" };
        let file = music.unwrap_or_else(|| &self.files[name]);
        let number = |bytes: &[u8]| bytes.iter().fold(0, |n, &b| n << 8 | b as usize);
        let (len, mut sector) = (number(&entry[..3]), number(&entry[3..]));
        let (wide, mut out, mut position) = (if group > 65535 { 4 } else { 2 }, vec![], 0);
        if len == 0 {
            return None;
        }
        while out.len() < len {
            let here = (len - out.len()).min(520 - wide - 6);
            let bytes = file.get(sector * 520..sector * 520 + wide + 6 + here)?;
            let is_ours = number(&bytes[..wide]) == group as usize
                && number(&bytes[wide..wide + 2]) == position
                && bytes[wide + 5] == archive + u8::from(self.legacy);
            if sector == 0 || !is_ours {
                return None;
            }
            out.extend(&bytes[wide + 6..]);
            (sector, position) = (number(&bytes[wide + 2..wide + 5]), position + 1);
        }
        // The last sector's number of a next one has no meaning.
        Some(out)
    }
}

/// A whole sector of a group below 65,536, header first.
fn sector(archive: u8, group: u16, position: u16, next: u32, data: &[u8]) -> Vec<u8> {
    let [g0, g1] = group.to_be_bytes();
    let [p0, p1] = position.to_be_bytes();
    let [_, n0, n1, n2] = next.to_be_bytes();
    let mut bytes = vec![g0, g1, p0, p1, n0, n1, n2, archive];
    bytes.extend(data);
    bytes.resize(520, 0);
    bytes
}

/// `len` bytes that differ from place to place.
fn data(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 251) as u8).collect()
}

/// What a visitor was shown, by archive and group.
#[derive(Debug, Default)]
struct Outcome {
    groups: Vec<StoredGroup>,
    shown: BTreeMap<usize, Vec<u8>>,
    ended: BTreeMap<usize, Result<(), GroupError>>,
    progress: (u64, u64),
}

impl Outcome {
    fn of(&self, archive: u8, group: u32) -> Result<&[u8], &GroupError> {
        let slot = self.groups.iter().position(|g| (g.archive, g.group) == (archive, group));
        let slot = slot.expect("listed");
        self.ended[&slot].as_ref().map(|()| &self.shown[&slot][..])
    }

    fn message(&self, archive: u8, group: u32) -> String {
        self.of(archive, group).expect_err("a broken group").to_string()
    }
}

impl GroupVisitor for Outcome {
    fn piece(&mut self, slot: usize, offset: u32, bytes: &[u8]) {
        let shown = self.shown.entry(slot).or_default();
        assert!(!self.ended.contains_key(&slot), "shown after its end");
        assert!(!bytes.is_empty());
        assert_eq!(shown.len(), offset as usize, "in order and without a gap");
        shown.extend(bytes);
    }

    fn complete(&mut self, slot: usize) {
        assert!(self.ended.insert(slot, Ok(())).is_none(), "ended twice");
        assert_eq!(self.shown[&slot].len(), self.groups[slot].len_bytes as usize);
    }

    fn failed(&mut self, slot: usize, error: GroupError) {
        assert!(self.ended.insert(slot, Err(error)).is_none(), "ended twice");
    }

    fn progress(&mut self, done: u64, total: u64) {
        assert!(self.progress.0 <= done && done <= total);
        self.progress = (done, total);
    }
}

fn open(dir: &Path) -> Result<Store, StoreError> {
    block_on(Store::open(dir))
}

/// Reads all that there is, in both ways, which must come to the same.
fn read(dir: &Path) -> Result<Outcome, StoreError> {
    let [ring, plain] = [Reading::Ring, Reading::Plain].map(|reading| read_by(reading, dir));
    assert_eq!(format!("{ring:?}"), format!("{plain:?}"));
    ring
}

/// Reads all that there is, and holds the reader to its contract.
fn read_by(reading: Reading, dir: &Path) -> Result<Outcome, StoreError> {
    block_on_by(reading, async {
        let store = Store::open(dir).await?;
        let groups = store.groups().to_vec();
        assert!(groups.is_sorted_by_key(|g| (g.archive, g.group)));
        let mut outcome = Outcome { groups, ..Outcome::default() };
        store.read_all(&mut outcome).await?;
        assert_eq!(outcome.ended.len(), outcome.groups.len(), "each slot ends");
        assert_eq!(outcome.progress.0, outcome.progress.1);
        Ok(outcome)
    })
}
