//! Files, read through a ring or plainly. The only place in `cache` that names tokio-uring.
//!
//! A read that was started runs on its own task: a ring owns the buffer until it is done,
//! whether or not anybody still waits. A plain read is done when its task has its turn.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::{JoinHandle, LocalSet};
use tokio_uring::buf::BoundedBuf;

/// How files are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Through a ring, several reads at once; plainly on a host that denies it.
    Ring,
    /// By system calls, one after the other.
    Plain,
}

thread_local! {
    /// How files are read that this thread opens.
    static READING: Cell<Reading> = const { Cell::new(Reading::Ring) };
}

/// A file that is open for reading. Clones share it.
#[derive(Clone)]
pub(super) struct InputFile {
    file: Kind,
}

#[derive(Clone)]
enum Kind {
    Ring(Rc<tokio_uring::fs::File>),
    Plain(Rc<std::fs::File>),
}

impl InputFile {
    /// Opens `path` for reading.
    pub(super) async fn open(path: &Path) -> io::Result<Self> {
        let file = match READING.get() {
            Reading::Ring => Kind::Ring(Rc::new(tokio_uring::fs::File::open(path).await?)),
            Reading::Plain => Kind::Plain(Rc::new(std::fs::File::open(path)?)),
        };
        Ok(Self { file })
    }

    /// Fills `buf`, from its start, with the `len` bytes at `start`. What comes back is
    /// shorter only if the file ends there.
    pub(super) async fn read_at(&self, mut buf: Vec<u8>, start: u64, len: usize) -> ReadResult {
        buf.clear();
        buf.reserve_exact(len);
        while buf.len() < len {
            let filled = buf.len();
            let offset = start.saturating_add(u64::try_from(filled).unwrap_or(u64::MAX));
            let result = match &self.file {
                Kind::Ring(file) => {
                    let (result, slice) = file.read_at(buf.slice(filled..len), offset).await;
                    buf = slice.into_inner();
                    result
                }
                Kind::Plain(file) => {
                    buf.resize(len, 0);
                    let result = file.read_at(buf.get_mut(filled..).unwrap_or_default(), offset);
                    buf.truncate(filled.saturating_add(result.as_ref().map_or(0, |&read| read)));
                    result
                }
            };
            match result {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(buf)
    }
}

/// The buffer, or why it could not be filled.
pub(super) type ReadResult = io::Result<Vec<u8>>;

/// Reading that goes on by itself until somebody asks for its outcome.
pub(super) struct Started<T>(JoinHandle<io::Result<T>>);

/// Starts reading. Nothing is submitted before the caller next waits for something.
pub(super) fn start<T: 'static>(
    reading: impl Future<Output = io::Result<T>> + 'static,
) -> Started<T> {
    Started(tokio::task::spawn_local(reading))
}

impl<T> Started<T> {
    /// What came of it.
    pub(super) async fn outcome(self) -> io::Result<T> {
        self.0.await.unwrap_or_else(|error| Err(io::Error::other(error)))
    }
}

/// How often a ring's runtime wakes by itself. It submits when its thread parks and does not mind
/// if that fails, so that the next time it parks must come even if nothing completes.
const HEARTBEAT: Duration = Duration::from_millis(100);

/// Runs `future` on the calling thread, for as long as it takes. Files that it opens are read
/// through a ring, or plainly on a host that denies it.
pub fn block_on<F: Future>(future: F) -> F::Output {
    block_on_by(Reading::Ring, future)
}

/// The same, with files read in that way.
pub fn block_on_by<F: Future>(reading: Reading, future: F) -> F::Output {
    let ring = match reading {
        // Tried first, because without a ring tokio-uring never frees the runtime it made for one.
        Reading::Ring if tokio_uring::uring_builder().build(1).is_ok() => {
            tokio_uring::Runtime::new(&tokio_uring::builder()).ok()
        }
        Reading::Ring | Reading::Plain => None,
    };
    READING.set(if ring.is_some() { Reading::Ring } else { Reading::Plain });
    let Some(ring) = ring else {
        return LocalSet::new().block_on(&plain_runtime(), future);
    };
    ring.block_on(async {
        let heart = tokio::task::spawn_local(async {
            let mut beats = tokio::time::interval(HEARTBEAT);
            loop {
                beats.tick().await;
            }
        });
        let output = future.await;
        heart.abort();
        output
    })
}

#[expect(clippy::expect_used, reason = "no input leads here")]
fn plain_runtime() -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime without a reactor asks the system for nothing")
}

/// Fills `piece` from its start; less only if the content ends.
pub(super) fn fill(content: &mut dyn io::Read, piece: &mut [u8]) -> io::Result<usize> {
    let mut filled: usize = 0;
    while let Some(rest) = piece.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match content.read(rest) {
            Ok(0) => break,
            Ok(len) => filled = filled.saturating_add(len),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
