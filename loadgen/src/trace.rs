//! Traces: who asked for what, when. Written by `record` and `run --trace`, read by `replay`.
//!
//! A text file, one request a line, in the order of time, after a first line that names the
//! format:
//!
//! ```text
//! # js5-trace 1: microseconds, client, class (u urgent, p prefetch), archive/group
//! 0 0 u 255/255
//! 1250 0 u 255/0
//! 1250 1 p 2/17
//! ```
//!
//! Times count from the trace's start. Lines that begin with `#` are comments.

use js5d::protocol::{Class, GroupId};
use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::path::Path;

const HEAD: &str =
    "# js5-trace 1: microseconds, client, class (u urgent, p prefetch), archive/group";

/// One request that was written, for traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) at_ns: u64,
    pub(crate) client: u32,
    pub(crate) class: Class,
    pub(crate) id: GroupId,
}

/// The requests of one client of a trace, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TracedClient {
    /// When (microseconds from the trace's start), and what.
    pub(crate) requests: Vec<TracedRequest>,
}

/// One request of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TracedRequest {
    /// Microseconds from the trace's start.
    pub(crate) at_us: u64,
    /// The class.
    pub(crate) class: Class,
    /// The group.
    pub(crate) id: GroupId,
}

/// Writes requests, which are put in order of time. Times count from the first.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn write(path: &Path, requests: &mut [Written]) -> io::Result<()> {
    requests.sort_by_key(|request| request.at_ns);
    let start = requests.first().map_or(0, |request| request.at_ns);
    let mut out = io::BufWriter::new(std::fs::File::create(path)?);
    write_head(&mut out)?;
    for request in requests {
        write_line(&mut out, Written { at_ns: request.at_ns - start, ..*request })?;
    }
    out.flush()
}

/// Begins a trace that is written as it happens.
pub(crate) fn write_head(out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{HEAD}")
}

/// Writes one request.
pub(crate) fn write_line(out: &mut impl Write, request: Written) -> io::Result<()> {
    let Written { at_ns, client, class, id } = request;
    let class = match class {
        Class::Urgent => 'u',
        Class::Prefetch => 'p',
    };
    writeln!(out, "{} {client} {class} {id}", at_ns / 1000)
}

/// Reads a trace.
///
/// # Errors
/// The file cannot be read, or a line is not a request: the error names the line.
pub(crate) fn read(path: &Path) -> io::Result<Vec<TracedClient>> {
    let mut clients = BTreeMap::<u32, TracedClient>::new();
    for (index, line) in io::BufReader::new(std::fs::File::open(path)?).lines().enumerate() {
        let line = line?;
        if line.starts_with('#') || line.trim().is_empty() {
            continue;
        }
        let (client, request) = parse_line(&line).ok_or_else(|| {
            let wrong = format!("line {}: {line:?} is not a request", index + 1);
            io::Error::new(io::ErrorKind::InvalidData, wrong)
        })?;
        clients.entry(client).or_default().requests.push(request);
    }
    Ok(clients.into_values().collect())
}

fn parse_line(line: &str) -> Option<(u32, TracedRequest)> {
    let mut words = line.split_whitespace();
    let at_us = words.next()?.parse().ok()?;
    let client = words.next()?.parse().ok()?;
    let class = match words.next()? {
        "u" => Class::Urgent,
        "p" => Class::Prefetch,
        _ => return None,
    };
    let (archive, group) = words.next()?.split_once('/')?;
    let id = GroupId { archive: archive.parse().ok()?, group: group.parse().ok()? };
    Some((client, TracedRequest { at_us, class, id }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("trace");
        let id = |archive, group| GroupId { archive, group };
        let mut requests = [
            Written { at_ns: 9_000_000, client: 4, class: Class::Prefetch, id: id(2, 17) },
            Written { at_ns: 5_000_000, client: 1, class: Class::Urgent, id: id(255, 255) },
        ];
        write(&path, &mut requests).unwrap();
        let clients = read(&path).unwrap();
        assert_eq!(clients.len(), 2);
        let first = TracedRequest { at_us: 0, class: Class::Urgent, id: id(255, 255) };
        assert_eq!(clients[0].requests, [first]);
        let second = TracedRequest { at_us: 4000, class: Class::Prefetch, id: id(2, 17) };
        assert_eq!(clients[1].requests, [second]);
        std::fs::write(&path, "0 0 x 1/1\n").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("line 1"));
    }
}
