//! Targets of stores: they write the files that are then read.

use super::super::image::{DAT2, Image, idx};
use super::super::plain;
use js5d::cache::{GroupError, GroupVisitor, Store, StoredGroup, block_on};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// The archive whose idx file is an input, or lists what the input holds.
const ARCHIVE: u8 = 9;

/// Groups that are listed of a dat2 file, each from the sector of its number plus one on.
const GROUPS: u16 = 6;

thread_local! {
    /// A directory for all executions, and what is in it.
    static ON_DISK: RefCell<(tempfile::TempDir, Image)> = RefCell::new((
        tempfile::tempdir().expect("a directory for a cache"),
        Image::default(),
    ));
}

/// An idx file beside a sound dat2 file.
pub(super) fn idx_file(data: &[u8]) {
    let mut image = Image::default();
    for group in 0..GROUPS {
        let len = 100 + usize::from(group) * 300;
        image.store(ARCHIVE, group, &vec![group as u8; len]);
    }
    image.files.insert(idx(ARCHIVE), data.to_vec());
    check(image);
}

/// Six lengths of three bytes, then a dat2 file.
pub(super) fn sector_chain(data: &[u8]) {
    let mut image = Image::default();
    let (lengths, dat2) = data.split_at(data.len().min(usize::from(GROUPS) * 3));
    for (group, len) in lengths.chunks(3).enumerate() {
        let len = len.iter().fold(0, |len, &byte| len << 8 | usize::from(byte));
        image.list(ARCHIVE, group as u16, len, group + 1);
    }
    image.files.insert(DAT2.into(), dat2.to_vec());
    image.files.entry(idx(ARCHIVE)).or_default();
    check(image);
}

/// Collects what is shown.
#[derive(Default)]
pub(super) struct Shown {
    pub(super) bytes: BTreeMap<usize, Vec<u8>>,
    pub(super) ended: BTreeMap<usize, Result<(), GroupError>>,
    total: u64,
}

impl GroupVisitor for Shown {
    fn piece(&mut self, slot: usize, offset: u32, bytes: &[u8]) {
        assert!(!self.ended.contains_key(&slot));
        let shown = self.bytes.entry(slot).or_default();
        assert_eq!(shown.len(), offset as usize);
        shown.extend(bytes);
    }
    fn complete(&mut self, slot: usize) {
        assert!(self.ended.insert(slot, Ok(())).is_none());
    }
    fn failed(&mut self, slot: usize, error: GroupError) {
        assert!(error.to_string().starts_with("archive "), "{error}");
        assert!(self.ended.insert(slot, Err(error)).is_none());
    }
    fn progress(&mut self, done: u64, total: u64) {
        assert!(done <= total);
        self.total = total;
    }
}

/// Reads the store, and compares each group that the wire can name with the plain reader.
fn check(image: Image) {
    ON_DISK.with_borrow_mut(|(dir, before)| {
        image.write(dir.path(), before).expect("a directory that can be written");
        let (groups, shown) = block_on(async {
            let store = Store::open(dir.path()).await.expect("there is a store");
            let mut shown = Shown::default();
            store.read_all(&mut shown).await.expect("readable files");
            (store.groups().to_vec(), shown)
        });
        assert_eq!(shown.ended.len(), groups.len());
        assert_eq!(shown.total, image.files[DAT2].len() as u64);
        for (slot, &StoredGroup { group, .. }) in groups.iter().enumerate() {
            let Ok(group) = u16::try_from(group) else { continue };
            let expected = plain::stored(&image, ARCHIVE, group);
            let found = shown.ended[&slot].is_ok().then(|| &shown.bytes[&slot]);
            assert_eq!(found, expected.as_ref(), "group {group}");
        }
        *before = image;
    });
}
