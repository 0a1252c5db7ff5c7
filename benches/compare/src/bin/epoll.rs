//! `epoll`: a JS5 server on plain tokio, one thread, a task a connection. All that one read asked
//! for is answered in one write, as in js5d: what is compared is the way to the kernel.

use js5_compare_peers::batch::Batch;
use js5_compare_peers::session::Session;
use js5_compare_peers::setup::{Options, listen, snapshot};
use js5d::catalog::Snapshot;
use std::cell::RefCell;
use std::error::Error;
use std::io::{self, IoSlice};
use std::rc::Rc;
use tokio::net::{TcpListener, TcpStream};

/// As js5d's read buffer: 64 requests, more than a client's windows hold.
const READ_LEN_MAX: usize = 256;

/// More pieces in one write than the kernel takes would fail.
const PIECES_MAX: usize = 1024;

/// Batches for reuse: an idle connection holds none.
type Pool = Rc<RefCell<Vec<Batch>>>;

fn main() -> Result<(), Box<dyn Error>> {
    let options = <Options as clap::Parser>::parse();
    let snapshot = snapshot(&options)?;
    let listener = listen(&options)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, async move {
        let listener = TcpListener::from_std(listener)?;
        let pool = Pool::default();
        loop {
            let (stream, _) = listener.accept().await?;
            let pool = Rc::clone(&pool);
            // How a connection ended is the generator's to judge.
            tokio::task::spawn_local(async move { drop(serve(stream, snapshot, pool).await) });
        }
    })
}

async fn serve(stream: TcpStream, snapshot: &'static Snapshot, pool: Pool) -> io::Result<()> {
    let mut session = Session::default();
    let mut buffer = [0; READ_LEN_MAX];
    loop {
        match stream.try_read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(len) => {
                let input = buffer.get(..len).unwrap_or_default();
                session.receive(input).map_err(|_| io::ErrorKind::InvalidData)?;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                stream.readable().await?;
                continue;
            }
            Err(error) => return Err(error),
        }
        let mut batch = pool.borrow_mut().pop().unwrap_or_default();
        loop {
            session.fill(&mut batch, snapshot);
            if batch.is_empty() {
                break;
            }
            send(&stream, &mut batch).await?;
            batch.clear();
        }
        pool.borrow_mut().push(batch);
        if session.is_disconnected() {
            return Ok(());
        }
    }
}

async fn send(stream: &TcpStream, batch: &mut Batch) -> io::Result<()> {
    while !batch.is_empty() {
        let sent = match batch.as_one_slice() {
            Some(bytes) => stream.try_write(bytes),
            None => {
                let pieces: Vec<_> = batch.pieces().map(IoSlice::new).take(PIECES_MAX).collect();
                stream.try_write_vectored(&pieces)
            }
        };
        match sent {
            Ok(len) => batch.advance(len),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.writable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
