//! A data file, taken apart in memory.
//!
//! One *sweep* reads the whole file in large pieces, in file order, several in flight. Each
//! chain waits for the piece that holds its next sector, so that no table of sectors is needed.
//! Chains that lead back to a piece that was read before are read in *waves*: a wave moves each of
//! them on by at least a sector, through small windows, many in flight. Files that were written in
//! one go need no wave; the worst file costs one small read for each sector.

use std::collections::VecDeque;
use std::io::Read;
use std::path::PathBuf;

use super::chain::{Chain, Extent, Followed, Window};
use super::file::{self, InputFile, Started, fill};
use super::sector::{SECTOR_BYTES, SECTOR_BYTES_U64};
use super::{GroupVisitor, StoreError};

/// The sweep: 8 pieces of 1,048,320 bytes. More of either gains nothing from a disk that
/// answers in 100 µs, and costs memory.
const SWEEP: Shape = Shape { sectors: 2016, in_flight_max: 8 };
/// The waves: 64 windows of 16,120 bytes. A chain that runs backwards takes a read each 31
/// sectors, one that jumps about a read a sector.
const WAVE: Shape = Shape { sectors: 31, in_flight_max: 64 };

/// No chain: the end of a list of those that wait.
const NOBODY: usize = usize::MAX;

/// How a file is read: in windows of how many sectors, and how many at once.
#[derive(Clone, Copy)]
struct Shape {
    sectors: u32,
    in_flight_max: usize,
}

impl Shape {
    /// The window, counted from the start of the file, that holds a sector.
    fn window_of(self, sector: u32) -> u32 {
        sector.checked_div(self.sectors).unwrap_or(0)
    }

    fn bytes(self) -> usize {
        usize::try_from(self.sectors).unwrap_or(usize::MAX).saturating_mul(SECTOR_BYTES)
    }
}

/// A file that sectors are in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DataFile {
    pub(super) path: PathBuf,
    pub(super) extent: Extent,
}

impl DataFile {
    /// Follows `chains` through the file, and tells `done` of each piece's length.
    pub(super) async fn read<V: GroupVisitor>(
        &self,
        chains: &mut [Chain],
        visitor: &mut V,
        done: impl FnMut(&mut V, u64),
    ) -> Result<(), StoreError> {
        let io = |source| StoreError::Io { path: self.path.clone(), source };
        let file = InputFile::open(&self.path).await.map_err(io)?;
        let back = self.sweep(&file, chains, visitor, done).await.map_err(io)?;
        self.waves(&file, chains, back, visitor).await.map_err(io)
    }

    /// Reads the whole file once. Comes back with the chains that lead backwards.
    async fn sweep<V: GroupVisitor>(
        &self,
        file: &InputFile,
        chains: &mut [Chain],
        visitor: &mut V,
        mut done: impl FnMut(&mut V, u64),
    ) -> std::io::Result<Vec<Waiting>> {
        let mut sweep = Sweep::new(&self.extent, chains, 0..chains.len());
        let mut reads = Reads::new(file, SWEEP, 0..sweep.window_count);
        while let Some((ordinal, bytes)) = reads.next().await? {
            sweep.serve(ordinal, &bytes, chains, visitor);
            done(visitor, u64::try_from(bytes.len()).unwrap_or(0));
            reads.give_back(bytes);
        }
        Ok(sweep.back)
    }

    /// Follows those of `chains` that have the numbers `waiting` through the file, as it comes
    /// out of `content`. Comes back with the numbers of those that lead backwards.
    pub(super) fn stream<V: GroupVisitor>(
        &self,
        content: &mut dyn Read,
        chains: &mut [Chain],
        waiting: impl DoubleEndedIterator<Item = usize>,
        visitor: &mut V,
        mut done: impl FnMut(&mut V, u64),
    ) -> std::io::Result<Vec<usize>> {
        let mut sweep = Sweep::new(&self.extent, chains, waiting);
        let mut bytes = vec![0; SWEEP.bytes()];
        for ordinal in 0..sweep.window_count {
            let len = fill(content, &mut bytes)?;
            sweep.serve(ordinal, bytes.get(..len).unwrap_or_default(), chains, visitor);
            done(visitor, u64::try_from(len).unwrap_or(0));
        }
        Ok(sweep.back.into_iter().map(|waiting| waiting.number).collect())
    }

    /// Moves all waiting chains on, wave by wave, until none is left.
    async fn waves(
        &self,
        file: &InputFile,
        chains: &mut [Chain],
        mut waiting: Vec<Waiting>,
        visitor: &mut impl GroupVisitor,
    ) -> std::io::Result<()> {
        let mut still = Vec::new();
        while !waiting.is_empty() {
            waiting.sort_unstable();
            let by_window = || waiting.chunk_by(|a, b| a.window() == b.window());
            let mut groups = by_window();
            let ordinals = by_window().filter_map(|group| group.first().map(Waiting::window));
            let mut reads = Reads::new(file, WAVE, ordinals);
            while let (Some((ordinal, bytes)), Some(group)) = (reads.next().await?, groups.next()) {
                let window = window(WAVE, ordinal, &bytes);
                for &Waiting { number, .. } in group {
                    let Some(chain) = chains.get_mut(number) else { continue };
                    if chain.follow(&window, &self.extent, visitor) == Followed::Onwards {
                        still.push(Waiting { sector: chain.sector(), number });
                    }
                }
                reads.give_back(bytes);
            }
            waiting.clear();
            std::mem::swap(&mut waiting, &mut still);
        }
        Ok(())
    }
}

/// One reading of a whole file, window by window.
struct Sweep<'a> {
    extent: &'a Extent,
    window_count: u32,
    queue: Queue,
    /// Chains that lead back to where the sweep has been.
    back: Vec<Waiting>,
}

impl<'a> Sweep<'a> {
    fn new(
        extent: &'a Extent,
        chains: &[Chain],
        waiting: impl DoubleEndedIterator<Item = usize>,
    ) -> Self {
        let window_count = extent.sector_count().div_ceil(SWEEP.sectors);
        let mut queue = Queue::new(window_count, chains.len());
        // Backwards, since the last to come is the first to be served.
        for number in waiting.rev() {
            if let Some(chain) = chains.get(number) {
                queue.wait(SWEEP.window_of(chain.sector()), number);
            }
        }
        Self { extent, window_count, queue, back: Vec::new() }
    }

    /// Follows the chains that wait at a window.
    fn serve(
        &mut self,
        ordinal: u32,
        bytes: &[u8],
        chains: &mut [Chain],
        visitor: &mut impl GroupVisitor,
    ) {
        let window = window(SWEEP, ordinal, bytes);
        let mut number = self.queue.first(ordinal);
        while let Some(chain) = chains.get_mut(number) {
            let behind = self.queue.behind(number);
            if chain.follow(&window, self.extent, visitor) == Followed::Onwards {
                let sector = chain.sector();
                let onwards = SWEEP.window_of(sector);
                if onwards > ordinal {
                    self.queue.wait(onwards, number);
                } else {
                    self.back.push(Waiting { sector, number });
                }
            }
            number = behind;
        }
    }
}

/// A chain that waits for a sector. Ordered by the sector.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    sector: u32,
    /// Which of the chains.
    number: usize,
}

impl Waiting {
    fn window(&self) -> u32 {
        WAVE.window_of(self.sector)
    }
}

fn window(shape: Shape, ordinal: u32, bytes: &[u8]) -> Window<'_> {
    let first_sector = ordinal.saturating_mul(shape.sectors);
    Window { first_sector, sector_count: shape.sectors, bytes }
}

/// Which chains wait for which window. A chain waits for one at most, so all lists share one
/// table with a place for each chain.
struct Queue {
    /// By window: the chain that is served first.
    first: Vec<usize>,
    /// By chain: the one that is served after it.
    behind: Vec<usize>,
}

impl Queue {
    fn new(window_count: u32, chain_count: usize) -> Self {
        let window_count = usize::try_from(window_count).unwrap_or(0);
        Self { first: vec![NOBODY; window_count], behind: vec![NOBODY; chain_count] }
    }

    fn wait(&mut self, ordinal: u32, number: usize) {
        let first = usize::try_from(ordinal).ok().and_then(|i| self.first.get_mut(i));
        if let (Some(first), Some(behind)) = (first, self.behind.get_mut(number)) {
            *behind = std::mem::replace(first, number);
        }
    }

    fn first(&self, ordinal: u32) -> usize {
        let ordinal = usize::try_from(ordinal).unwrap_or(usize::MAX);
        self.first.get(ordinal).copied().unwrap_or(NOBODY)
    }

    fn behind(&self, number: usize) -> usize {
        self.behind.get(number).copied().unwrap_or(NOBODY)
    }
}

/// Windows of a file, read ahead and handed out in the order in which they were asked for.
struct Reads<'a, I> {
    file: &'a InputFile,
    shape: Shape,
    ordinals: I,
    in_flight: VecDeque<(u32, Started<Vec<u8>>)>,
    /// Buffers to be used again.
    idle: Vec<Vec<u8>>,
}

impl<'a, I: Iterator<Item = u32>> Reads<'a, I> {
    fn new(file: &'a InputFile, shape: Shape, ordinals: I) -> Self {
        Self { file, shape, ordinals, in_flight: VecDeque::new(), idle: Vec::new() }
    }

    /// The next window's number and bytes.
    async fn next(&mut self) -> std::io::Result<Option<(u32, Vec<u8>)>> {
        while self.in_flight.len() < self.shape.in_flight_max {
            let Some(ordinal) = self.ordinals.next() else { break };
            let first_sector = u64::from(ordinal).saturating_mul(u64::from(self.shape.sectors));
            let start = first_sector.saturating_mul(SECTOR_BYTES_U64);
            let (file, buf) = (self.file.clone(), self.idle.pop().unwrap_or_default());
            let len = self.shape.bytes();
            let read = file::start(async move { file.read_at(buf, start, len).await });
            self.in_flight.push_back((ordinal, read));
        }
        let Some((ordinal, read)) = self.in_flight.pop_front() else { return Ok(None) };
        Ok(Some((ordinal, read.outcome().await?)))
    }

    /// Takes a buffer back.
    fn give_back(&mut self, bytes: Vec<u8>) {
        self.idle.push(bytes);
    }
}
