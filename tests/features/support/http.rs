//! The admin address's other end, by hand: HTTP/1.1 in a few lines that share no code with the
//! server.

use super::{PATIENCE, Server};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
pub(crate) use testkit::Metrics;

/// Where a server is asked.
#[derive(Clone, Copy)]
pub(crate) struct Http(pub(crate) SocketAddr);

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Lower case names.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Http {
    /// The first admin address that the server has said it has.
    pub(crate) fn of(server: &Server) -> Self {
        let log = server.log();
        let (_, rest) = log.split_once("admin address ").expect("there is one");
        Self(rest.split_whitespace().next().expect("it").parse().expect("an address"))
    }

    pub(crate) fn get(self, path: &str) -> Reply {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: {}\r\n", self.0), "")
    }

    /// A request with these lines, and one that ends the connection.
    pub(crate) fn send(self, head: &str, body: &str) -> Reply {
        let mut stream = self.connect();
        write!(stream, "{head}Connection: close\r\n\r\n{body}").expect("it reads");
        Reply::read(stream)
    }

    pub(crate) fn connect(self) -> TcpStream {
        let stream = TcpStream::connect(self.0).expect("the admin address listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream
    }

    pub(crate) fn metrics(self) -> Metrics {
        Metrics::parse(&self.get("/metrics").body)
    }

    pub(crate) fn status(self) -> serde_json::Value {
        serde_json::from_str(&self.get("/status.json").body).expect("JSON")
    }
}

impl Reply {
    /// Reads to the end of the stream.
    pub(crate) fn read(mut stream: impl Read) -> Self {
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an orderly end");
        Self::parse(&text)
    }

    /// Reads up to the end, or to a reset because the server did not want to hear all of it.
    pub(crate) fn read_some(mut stream: impl Read) -> Self {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        Self::parse(&String::from_utf8(bytes).expect("text"))
    }

    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").expect("an answer");
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status");
        let headers = lines.filter_map(|line| line.split_once(": "));
        Self {
            status: status.parse().expect("a number"),
            headers: headers.map(|(name, value)| (name.to_lowercase(), value.into())).collect(),
            body: body.to_owned(),
        }
    }
}
