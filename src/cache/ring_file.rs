//! Files, read through the ring. The only place in `cache` that names tokio-uring.
//!
//! A read that was started runs on its own task: the ring owns the buffer until it is done,
//! whether or not anybody still waits.

use std::future::Future;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_uring::buf::BoundedBuf;
use tokio_uring::fs::File;

/// A file that is open for reading. Clones share it.
#[derive(Clone)]
pub(super) struct RingFile {
    file: Rc<File>,
}

impl RingFile {
    /// Opens `path` for reading.
    pub(super) async fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: Rc::new(File::open(path).await?) })
    }

    /// Fills `buf`, from its start, with the `len` bytes at `start`. What comes back is
    /// shorter only if the file ends there.
    pub(super) async fn read_at(&self, buf: Vec<u8>, start: u64, len: usize) -> ReadResult {
        let mut buf = buf;
        buf.clear();
        buf.reserve_exact(len);
        while buf.len() < len {
            let filled = buf.len();
            let offset = start.saturating_add(u64::try_from(filled).unwrap_or(u64::MAX));
            let (result, slice) = self.file.read_at(buf.slice(filled..len), offset).await;
            buf = slice.into_inner();
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

/// A read that goes on by itself until its result is asked for.
pub(super) struct Started<T>(JoinHandle<io::Result<T>>);

/// Starts reading. Nothing is submitted before the caller next waits for something.
pub(super) fn start<T: 'static>(
    reading: impl Future<Output = io::Result<T>> + 'static,
) -> Started<T> {
    Started(tokio_uring::spawn(reading))
}

impl<T> Started<T> {
    /// Its result.
    pub(super) async fn outcome(self) -> io::Result<T> {
        self.0.await.unwrap_or_else(|error| Err(io::Error::other(error)))
    }
}

/// How often the runtime wakes by itself. It submits when its thread parks, and ignores a failure;
/// so it must park again even if nothing completes.
const HEARTBEAT: Duration = Duration::from_millis(100);

/// Runs `future` on a ring of its own, on the calling thread, for as long as it takes.
pub fn block_on<F: Future>(future: F) -> F::Output {
    tokio_uring::start(async {
        let heart = tokio_uring::spawn(async {
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
