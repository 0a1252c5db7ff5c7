//! Reading what was listed of a packed file, in the order in which it stands there.

use std::fs::File;
use std::io::{self, BufReader, Read};

use super::fault::{fault_of, refused, refused_by};
use super::name::{self, Part};
use super::zip::{self, Inflate};
use super::{BUFFER_BYTES, Member, PIECE_BYTES, Packed, PackedFault, Packing, tar};
use crate::cache::file::fill;
use crate::cache::names::{DAT2, DAT2M};
use crate::cache::{GROUP_BYTES_MAX, GroupError, GroupVisitor, StoreError, StoreKind, StoredGroup};

impl Packed {
    pub(in crate::cache) fn packing(&self) -> Packing {
        self.packing
    }

    pub(in crate::cache) fn kind(&self) -> StoreKind {
        self.kind
    }

    /// The data files of a store of sectors: name and length.
    pub(in crate::cache) fn data_files(&self) -> Vec<(&'static str, u64)> {
        let file = |member: &Member| match member.part {
            Part::Data => Some((DAT2, member.len_bytes)),
            Part::MusicData => Some((DAT2M, member.len_bytes)),
            _ => None,
        };
        self.members.iter().filter_map(file).collect()
    }

    /// Lets `read` read the data file of this name, from its start to its end.
    pub(in crate::cache) fn data(
        &self,
        name: &str,
        read: &mut dyn FnMut(&mut dyn Read) -> io::Result<()>,
    ) -> Result<(), StoreError> {
        let part = if name == DAT2M { Part::MusicData } else { Part::Data };
        self.each(&|member| member.part == part, &mut |_, content| {
            read(content)?;
            // What is beyond the sectors that can be named, and then the end, with its checks.
            io::copy(content, &mut io::sink()).map(drop)
        })
    }

    /// Shows `visitor` each group of a flat-file store.
    pub(in crate::cache) fn groups<V: GroupVisitor>(
        &self,
        groups: &[StoredGroup],
        visitor: &mut V,
        mut done: impl FnMut(&mut V, u64),
    ) -> Result<(), StoreError> {
        let mut piece = vec![0; PIECE_BYTES];
        self.each(&|_| true, &mut |number, content| {
            let Some(&slot) = self.slots.get(number) else { return Ok(()) };
            let Some(&group) = groups.get(slot) else { return Ok(()) };
            let member = self.members.get(number).copied();
            let (at, len) = member.map_or((0, 0), |member| (member.at, member.len_bytes));
            let StoredGroup { archive, group, .. } = group;
            if len == 0 {
                visitor.failed(slot, GroupError::FileEmpty { archive, group });
                return Ok(());
            }
            if len > u64::from(GROUP_BYTES_MAX) {
                let len_bytes_max = GROUP_BYTES_MAX;
                visitor.failed(slot, GroupError::FileTooLarge { archive, group, len_bytes_max });
                return Ok(());
            }
            let mut offset: u32 = 0;
            loop {
                match fill(content, &mut piece) {
                    Ok(0) => break visitor.complete(slot),
                    Ok(len) => {
                        visitor.piece(slot, offset, piece.get(..len).unwrap_or_default());
                        offset = offset.saturating_add(u32::try_from(len).unwrap_or(u32::MAX));
                    }
                    // Of a zip, the other entries can still be read; a tar ends here.
                    Err(error)
                        if self.packing == Packing::Zip && error.raw_os_error().is_none() =>
                    {
                        let cause = fault_of(&error);
                        visitor.failed(slot, GroupError::Packed { archive, group, at, cause });
                        break;
                    }
                    Err(error) => return Err(error),
                }
            }
            done(visitor, len);
            Ok(())
        })
    }

    /// Lets `read` read each member that is wanted; its number comes with it.
    fn each(
        &self,
        wanted: &dyn Fn(&Member) -> bool,
        read: &mut dyn FnMut(usize, &mut dyn Read) -> io::Result<()>,
    ) -> Result<(), StoreError> {
        match self.packing {
            Packing::Zip => self.each_of_zip(wanted, read),
            Packing::Tar | Packing::TarGz => self.each_of_tar(wanted, read),
        }
    }

    fn each_of_zip(
        &self,
        wanted: &dyn Fn(&Member) -> bool,
        read: &mut dyn FnMut(usize, &mut dyn Read) -> io::Result<()>,
    ) -> Result<(), StoreError> {
        let file = File::open(&self.path)
            .map_err(|source| StoreError::Io { path: self.path.clone(), source })?;
        let mut file = BufReader::with_capacity(BUFFER_BYTES, file);
        let mut inflate = Inflate::default();
        for (number, member) in self.members.iter().enumerate().filter(|(_, it)| wanted(it)) {
            let outcome = zip::content(&mut file, *member, &mut inflate)
                .and_then(|mut content| read(number, &mut content));
            outcome.map_err(|error| self.refuse(member, error))?;
        }
        Ok(())
    }

    fn each_of_tar(
        &self,
        wanted: &dyn Fn(&Member) -> bool,
        read: &mut dyn FnMut(usize, &mut dyn Read) -> io::Result<()>,
    ) -> Result<(), StoreError> {
        let mut walk = tar::Walk::open(&self.path, self.packing, self.bytes_max)?;
        let mut members = self.members.iter().enumerate().peekable();
        // Members are known by where they stand, and must be there again.
        while let Some((_, next)) = members.peek() {
            let changed = || refused(&self.path, None, PackedFault::Changed);
            let entry = walk.next(&self.path)?.ok_or_else(changed)?;
            if entry.at < next.at {
                continue;
            }
            let Some((number, member)) = members.next() else { break };
            let is_same = entry.at == member.at
                && entry.len_bytes == member.len_bytes
                && name::read(&entry.name).is_ok_and(|name| name.part == member.part);
            if !is_same {
                return Err(changed());
            }
            if wanted(member) {
                read(number, &mut walk.content()).map_err(|error| self.refuse(member, error))?;
            }
        }
        Ok(())
    }

    fn refuse(&self, member: &Member, error: io::Error) -> StoreError {
        let name = member.part.name(None);
        refused_by(&self.path, Some((&name, member.at)), error)
    }
}
