//! The groups that `js5d diff --json` lists: what a player who has the old cache downloads.

use crate::catalogue::Catalogue;
use js5d::protocol::{ARCHIVE_INDEXES, GroupId, MASTER_INDEX};
use serde::Deserialize;
use std::path::Path;

/// The part of the file that says what to ask for; the rest is ignored.
#[derive(Deserialize)]
struct Diff {
    archives: Vec<ArchiveDiff>,
}

#[derive(Deserialize)]
struct ArchiveDiff {
    archive: u8,
    how: String,
    added: Vec<u32>,
    changed: Vec<u32>,
}

/// The responses of such a download, in a client's order: the master index, the indexes of the
/// archives that differ, their groups.
///
/// # Errors
/// The file cannot be read, has another format, or lists no difference.
pub(crate) fn read(path: &Path) -> Result<Vec<GroupId>, String> {
    let named = |cause: &dyn std::fmt::Display| format!("--diff {}: {cause}", path.display());
    let text = std::fs::read_to_string(path).map_err(|e| named(&e))?;
    let groups = parse(&text).map_err(|e| named(&e))?;
    if groups.len() == 1 { Err(named(&"there is nothing to download in it")) } else { Ok(groups) }
}

fn parse(text: &str) -> serde_json::Result<Vec<GroupId>> {
    let diff: Diff = serde_json::from_str(text)?;
    let there = || diff.archives.iter().filter(|archive| archive.how != "gone");
    let index = |it: &ArchiveDiff| GroupId { archive: ARCHIVE_INDEXES, group: it.archive.into() };
    let groups = there().flat_map(|it| {
        let ids = it.added.iter().chain(&it.changed);
        ids.map(|&group| GroupId { archive: it.archive, group })
    });
    Ok(std::iter::once(MASTER_INDEX).chain(there().map(index)).chain(groups).collect())
}

/// The first of `groups` that the server does not list, because it does not serve the new cache,
/// or that its clients cannot ask for. None if it is not known what the server lists.
pub(crate) fn first_unlisted(groups: &[GroupId], catalogue: &Catalogue) -> Option<GroupId> {
    let is_listed = |id: &GroupId| *id == MASTER_INDEX || catalogue.checksum(*id).is_some();
    let is_known = !catalogue.indexes.is_empty();
    groups.iter().copied().find(|id| is_known && !is_listed(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_player_downloads_is_read_in_a_clients_order() {
        let text = r#"{
          "generations": ["01", null],
          "archives": [
            {"archive": 2, "how": "changed", "versions": [1, 2], "added": [7], "changed": [3, 9],
             "gone": [4], "download": {"responses": 4}},
            {"archive": 5, "how": "gone", "added": [], "changed": [], "gone": [1]},
            {"archive": 9, "how": "added", "added": [70000], "changed": [], "gone": []}
          ],
          "download": {}
        }"#;
        let expected = [(255, 255), (255, 2), (255, 9), (2, 7), (2, 3), (2, 9), (9, 70_000)];
        let expected = expected.map(|(archive, group)| GroupId { archive, group });
        assert_eq!(parse(text).unwrap(), expected);
        assert!(parse("{}").is_err());
    }
}
