//! The listening sockets: inherited, taken over from another process, or bound.
//!
//! An inherited socket stands for every `--listen` and `--listen-proxy` (or `--admin`). One that is
//! taken over stands for the address it is bound to, if that is still wanted: what the settings
//! add is bound, and what they no longer name is closed.

use super::system;
use crate::admin::{self, Address, Bound};
use crate::cli::{Role, ServeArgs};
use crate::failure::{Exit, Failure};
use crate::net::{self, Listener};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use tracing::warn;

/// A listening socket that comes from elsewhere, or goes there.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) role: Role,
    /// Whether another process keeps it open, too.
    pub(super) kept: bool,
    pub(super) descriptor: OwnedFd,
}

/// Everything that is listened on.
#[derive(Debug)]
pub(super) struct Listening {
    /// A set for each worker.
    pub(super) workers: Vec<Vec<Listener>>,
    pub(super) admin: Vec<Bound>,
    pub(super) handover: Option<Bound>,
    /// All of it once more, to be handed over; nothing if there is no `--handover`.
    pub(super) to_pass: Vec<Socket>,
}

/// Sockets that come from elsewhere, by role.
#[derive(Default)]
struct Adopted {
    js5: Vec<Listener>,
    admin: Vec<(Bound, bool)>,
    handover: Vec<Bound>,
}

/// Listens on everything that was asked for.
pub(super) fn listen(
    args: &ServeArgs,
    workers: usize,
    inherited: Vec<Socket>,
    handed: Vec<Socket>,
) -> Result<Listening, Failure> {
    let inherited = Adopted::new(inherited, args.limits.backlog)?;
    let mut handed = Adopted::new(handed, args.limits.backlog)?;
    let groups = if inherited.js5.is_empty() {
        js5(args, workers, &mut handed.js5)?
    } else {
        by_address(inherited.js5)
    };
    let admin =
        if inherited.admin.is_empty() { admin(args, &mut handed.admin)? } else { inherited.admin };
    let handover = match (&args.restart.handover, handed.handover.pop()) {
        (None, _) => None,
        (Some(_), Some(handed)) => Some(handed),
        (Some(path), None) => Some(bind_handover(path)?),
    };
    handed.say_what_is_closed();
    let to_pass = match &handover {
        None => Vec::new(),
        Some(handover) => to_pass(&groups, &admin, handover).map_err(system)?,
    };
    let admin = admin.into_iter().map(|(bound, _)| bound).collect();
    Ok(Listening { workers: deal(groups, workers).map_err(system)?, admin, handover, to_pass })
}

impl Adopted {
    fn new(sockets: Vec<Socket>, backlog: i32) -> Result<Self, Failure> {
        let mut adopted = Self::default();
        for Socket { role, kept, descriptor } in sockets {
            let result = match role {
                Role::Js5 | Role::Js5Proxy => {
                    let proxy = role == Role::Js5Proxy;
                    net::adopt(descriptor, backlog, kept)
                        .map(|listener| adopted.js5.push(Listener { proxy, ..listener }))
                }
                Role::Admin => {
                    Bound::adopt(descriptor, kept).map(|bound| adopted.admin.push((bound, kept)))
                }
                Role::Handover => {
                    Bound::adopt(descriptor, kept).map(|bound| adopted.handover.push(bound))
                }
            };
            result.map_err(|error| {
                let cause = format!("a socket for {role} cannot be used: {error}");
                let remedy = "look at --inherit-fds, or at the Listen lines of the unit's socket";
                Failure::new(Exit::Config, cause, remedy)
            })?;
        }
        Ok(adopted)
    }

    fn say_what_is_closed(self) {
        for Listener { address, .. } in self.js5 {
            warn!("{address} is no longer listened on: the settings do not name it");
        }
        for address in self.admin.iter().filter_map(|(bound, _)| bound.address()) {
            warn!(
                "the admin address {address} is no longer listened on: the settings do not name it"
            );
        }
    }
}

/// The sockets of each address of `--listen` and `--listen-proxy`.
fn js5(
    args: &ServeArgs,
    workers: usize,
    handed: &mut Vec<Listener>,
) -> Result<Vec<Vec<Listener>>, Failure> {
    let mut groups = Vec::new();
    let plain = args.listen.iter().map(|&address| (address, false));
    let proxy = args.proxy.listen_proxy.iter().map(|&address| (address, true));
    for (address, proxy) in plain.chain(proxy) {
        let mine = handed.extract_if(.., |socket| socket.address == address);
        let mut group: Vec<_> = mine.collect();
        if group.is_empty() {
            group = net::bind(address, workers, args.limits.backlog)?;
        }
        group.iter_mut().for_each(|listener| listener.proxy = proxy);
        groups.push(group);
    }
    Ok(groups)
}

/// The socket of each address of `--admin`, and whether another process keeps it.
fn admin(args: &ServeArgs, handed: &mut Vec<(Bound, bool)>) -> Result<Vec<(Bound, bool)>, Failure> {
    let mut all = Vec::new();
    for address in &args.admin.admin {
        let is_it = |(bound, _): &(Bound, bool)| bound.address().as_ref() == Some(address);
        all.push(match handed.iter().position(is_it) {
            Some(place) => handed.swap_remove(place),
            None => (admin::bind(address)?, false),
        });
    }
    Ok(all)
}

fn bind_handover(path: &Path) -> Result<Bound, Failure> {
    admin::bind(&Address::Unix(path.to_owned())).map_err(|error| {
        let cause = format!("--handover {}: {}", path.display(), error.source);
        Failure { cause, ..error.into() }
    })
}

fn by_address(sockets: Vec<Listener>) -> Vec<Vec<Listener>> {
    let mut groups: Vec<Vec<Listener>> = Vec::new();
    for socket in sockets {
        match groups.iter_mut().find(|group| group[0].address == socket.address) {
            Some(group) => group.push(socket),
            None => groups.push(vec![socket]),
        }
    }
    groups
}

/// Each worker gets a socket of each address, and none is left out: where there are too few, some
/// share one, and where there are too many, some have several.
fn deal(groups: Vec<Vec<Listener>>, workers: usize) -> io::Result<Vec<Vec<Listener>>> {
    let mut sets: Vec<Vec<Listener>> = (0..workers).map(|_| Vec::new()).collect();
    for group in groups {
        for place in group.len()..workers {
            sets[place].push(group[place % group.len()].try_clone()?);
        }
        for (place, socket) in group.into_iter().enumerate() {
            sets[place % workers].push(socket);
        }
    }
    Ok(sets)
}

fn to_pass(
    groups: &[Vec<Listener>],
    admin: &[(Bound, bool)],
    handover: &Bound,
) -> io::Result<Vec<Socket>> {
    let mut sockets = Vec::new();
    for listener in groups.iter().flatten() {
        let descriptor = listener.socket.try_clone()?;
        let role = if listener.proxy { Role::Js5Proxy } else { Role::Js5 };
        sockets.push(Socket { role, kept: listener.kept, descriptor });
    }
    for (bound, kept) in admin {
        sockets.push(Socket { role: Role::Admin, kept: *kept, descriptor: bound.descriptor()? });
    }
    let descriptor = handover.descriptor()?;
    sockets.push(Socket { role: Role::Handover, kept: false, descriptor });
    Ok(sockets)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of `sockets` sockets of one address, by its number, each of `workers` gets.
    fn dealt(sockets: usize, workers: usize) -> Vec<Vec<String>> {
        let address = "127.0.0.1:0".parse().expect("an address");
        let group = net::bind(address, sockets, 16).expect("a free port");
        // Copies have other descriptors, and the same socket.
        let name = |listener: &Listener| {
            let descriptor = std::os::fd::AsRawFd::as_raw_fd(&listener.socket);
            let link = std::fs::read_link(format!("/proc/self/fd/{descriptor}"));
            link.expect("it is open").display().to_string()
        };
        let names: Vec<_> = group.iter().map(name).collect();
        let number = |listener: &Listener| {
            let place = names.iter().position(|known| *known == name(listener));
            place.expect("one of them").to_string()
        };
        let sets = deal(vec![group], workers).expect("enough descriptors");
        sets.iter().map(|set| set.iter().map(number).collect()).collect()
    }

    #[test]
    fn each_worker_has_a_socket_and_each_socket_a_worker() {
        assert_eq!(dealt(2, 2), [["0"], ["1"]]);
        assert_eq!(dealt(1, 3), [["0"], ["0"], ["0"]], "they share it");
        assert_eq!(dealt(3, 2), [vec!["0", "2"], vec!["1"]]);
    }
}
