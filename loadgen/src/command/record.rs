//! `record`: a proxy between clients and a server that writes down what is asked, and when.
//!
//! Each connection has two plain threads that copy bytes as they arrive: this is for recording
//! players, not for measuring. A connection that is not JS5 is passed on, and not recorded.

use super::measure::Interrupt;
use super::output;
use crate::cli::RecordArgs;
use crate::failure::Exit;
use crate::failure::Failure;
use crate::settings;
use crate::trace::{self, Written};
use js5d::protocol::profile::table;
use js5d::protocol::session::Step;
use js5d::protocol::{Builds, Clients, Profile, ServerSession};
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often the proxy looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(20);

struct Book {
    start: Instant,
    out: BufWriter<File>,
    requests: u64,
}

/// Records until interrupted, or until its time is up.
pub(crate) fn record(args: &RecordArgs) -> Result<Exit, Failure> {
    let to = settings::target(&args.to)?;
    let remedy = "Give another address with --listen.";
    let failed = |e| Failure::setup(format!("{}: {e}", args.listen), remedy);
    let listener = TcpListener::bind(&args.listen).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let unwritable = |e| output::unwritable(&args.trace, &e);
    let mut out = BufWriter::new(File::create(&args.trace).map_err(unwritable)?);
    trace::write_head(&mut out).map_err(unwritable)?;
    let interrupt = Interrupt::watch()?;
    let address = listener.local_addr().map_err(failed)?;
    output::say(format_args!("recording {address} to {}\n", args.trace.display()));
    let book = Arc::new(Mutex::new(Book { start: Instant::now(), out, requests: 0 }));
    let started = Instant::now();
    let is_over =
        || interrupt.is_set() || args.duration.is_some_and(|span| started.elapsed() >= span.0);
    let mut client = 0;
    while !is_over() {
        match listener.accept() {
            Ok((socket, _)) => {
                begin(socket, to, client, &book);
                client += 1;
            }
            Err(_) => std::thread::sleep(LOOK),
        }
    }
    let mut book = book.lock().unwrap_or_else(PoisonError::into_inner);
    book.out.flush().map_err(unwritable)?;
    output::say(format_args!("{} requests of {client} clients\n", book.requests));
    Ok(Exit::Good)
}

fn begin(client_socket: TcpStream, to: SocketAddr, client: u32, book: &Arc<Mutex<Book>>) {
    let both = || -> io::Result<_> {
        client_socket.set_nonblocking(false)?;
        client_socket.set_nodelay(true)?;
        let server = TcpStream::connect(to)?;
        server.set_nodelay(true)?;
        Ok((client_socket.try_clone()?, server.try_clone()?, server))
    };
    // A client that cannot be passed on is closed, as the server's absence would.
    let Ok((client_reads, server_reads, server)) = both() else { return };
    let book = Arc::clone(book);
    std::thread::spawn(move || {
        let mut parser = Parser::new(client);
        copy(client_reads, server, |bytes| parser.take(bytes, &book));
    });
    std::thread::spawn(move || copy(server_reads, client_socket, |_| {}));
}

fn copy(mut from: TcpStream, mut to: TcpStream, mut see: impl FnMut(&[u8])) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(len @ 1..) = from.read(&mut buffer) {
        see(&buffer[..len]);
        if to.write_all(&buffer[..len]).is_err() {
            break;
        }
    }
    // Either side may be gone already.
    let _ = to.shutdown(Shutdown::Write);
}

/// Reads a client's bytes as a server of every revision would.
struct Parser {
    client: u32,
    session: ServerSession,
    /// Whether all bytes so far are what a JS5 client sends.
    is_js5: bool,
}

impl Parser {
    fn new(client: u32) -> Self {
        // An unknown build with the oldest handshake is read as build 550.
        let unknown = Profile { builds: 0..=u32::MAX, ..Profile::build_550() };
        let profiles = table::all().into_iter().chain([unknown]).collect();
        let clients = Clients::new(profiles, Builds::Any, 1)
            .unwrap_or_else(|_| Clients::like_550(Builds::Any, true, 1));
        Self { client, session: ServerSession::new(Arc::new(clients), None), is_js5: true }
    }

    fn take(&mut self, bytes: &[u8], book: &Mutex<Book>) {
        let mut book = book.lock().unwrap_or_else(PoisonError::into_inner);
        let at_ns = u64::try_from(book.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        for byte in bytes {
            // One at a time, so that requests are written in the order of their arrival.
            self.is_js5 &= self.session.receive(&[*byte]).is_ok();
            if !self.is_js5 {
                return;
            }
            loop {
                match self.session.next_step() {
                    Step::Response(response) => {
                        book.requests += 1;
                        let (client, class, id) = (self.client, response.class(), response.id());
                        // A full disk shows when the trace is ended.
                        let request = Written { at_ns, client, class, id };
                        let _ = trace::write_line(&mut book.out, request);
                    }
                    Step::Status(_) => {}
                    Step::Idle | Step::Close(_) => break,
                }
            }
        }
    }
}
