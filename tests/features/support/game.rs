//! A game server behind `js5d`, and game clients in front of it.

use super::{Cache, PATIENCE, Server};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

/// The login of a game client: opcode 14 and a byte.
pub(crate) const LOGIN: [u8; 2] = [14, 0x2A];

/// A game server: each connection gets a thread with this.
pub(crate) fn game_server(play: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a socket");
    serve_game(listener, play);
    address
}

pub(crate) fn serve_game(listener: TcpListener, play: impl Fn(TcpStream) + Clone + Send + 'static) {
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let play = play.clone();
            thread::spawn(move || play(stream));
        }
    });
}

/// Sends back what comes, and ends when its client does.
pub(crate) fn echo(mut stream: TcpStream) {
    let mut buffer = [0; 4000];
    while let Ok(len @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..len]).is_err() {
            return;
        }
    }
}

pub(crate) fn start(game: SocketAddr, options: &[&str]) -> Server {
    let game = game.to_string();
    let all = [&["--game-server", &game[..]], options].concat();
    Server::with_cache(&Cache::sample(), &all)
}

pub(crate) fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.address).expect("js5d listens");
    stream.set_nodelay(true).expect("a socket");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
    stream
}

/// A game client whose login came back from an echoing server.
pub(crate) fn log_in(server: &Server) -> TcpStream {
    let mut stream = connect(server);
    ping(&mut stream, &LOGIN);
    stream
}

pub(crate) fn ping(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).expect("js5d reads");
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back).expect("an echo");
    assert_eq!(back, bytes);
}

pub(crate) fn is_reset(stream: &mut TcpStream) -> bool {
    let heard = stream.read(&mut [0; 64]);
    heard.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
}

/// The value of a field in the last log line about game connections.
pub(crate) fn field(log: &str, name: &str) -> u64 {
    let line = log.lines().rev().find(|text| text.contains("game connections accepted="));
    let value = line.expect("it says so").split(&format!(" {name}=")).nth(1).expect("the field");
    value.split(' ').next().expect("a value").parse().expect("a number")
}
