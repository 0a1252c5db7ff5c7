//! Options of a restart without loss, and of the sandbox.

use super::units::duration;
use clap::{Args, ValueEnum};
use std::fmt;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// The longest path of a unix socket: `sun_path` of `sockaddr_un`, less its end.
const PATH_LEN_MAX: usize = 107;

/// Where listening sockets come from and go to.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Restart and sandbox")]
pub struct RestartArgs {
    /// Descriptor of a listening socket that the process inherits, such as 3, js5-proxy=4 or
    /// admin=5; several may be given. With a socket for JS5, --listen and --listen-proxy bind
    /// nothing; with one for admin, --admin binds nothing. Sockets that systemd passes need no
    /// option [default: none]
    #[arg(long, value_name = "[ROLE=]FD")]
    pub inherit_fds: Vec<InheritedFd>,

    /// Unix socket for hand-overs: a server that is started later with the same path takes the
    /// listening sockets over, and this one finishes and ends [default: none]
    #[arg(long, value_name = "PATH", value_parser = socket_path)]
    pub handover: Option<PathBuf>,

    /// How long the other server may take to answer at a hand-over, and to begin to serve
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub handover_timeout: Duration,

    /// Whether the process gives up its rights to files, sockets and privileges that serving does
    /// not need (Landlock and no_new_privs)
    #[arg(long, value_name = "WHETHER", default_value = "best-effort")]
    pub sandbox: SandboxArg,
}

/// Whether the process gives up what it needs no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SandboxArg {
    /// It keeps all its rights
    Off,
    /// It gives up what the kernel supports giving up
    BestEffort,
    /// It gives up all of them, or the server does not start
    Require,
}

/// What a listening socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// JS5 connections.
    Js5,
    /// JS5 connections that open with a PROXY header.
    Js5Proxy,
    /// The admin address.
    Admin,
    /// Hand-overs.
    Handover,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Js5, Self::Js5Proxy, Self::Admin, Self::Handover];

    /// Its name: for `--inherit-fds`, in a unit's `FileDescriptorName=`, and at a hand-over.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Js5 => "js5",
            Self::Js5Proxy => "js5-proxy",
            Self::Admin => "admin",
            Self::Handover => "handover",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A descriptor that is inherited, and what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InheritedFd {
    /// What its connections are.
    pub role: Role,
    /// Its number.
    pub number: RawFd,
}

impl FromStr for InheritedFd {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = "a number from 3 on is wanted, as 3 or admin=4";
        let (role, number) = text.split_once('=').unwrap_or((Role::Js5.name(), text));
        let mut roles = Role::ALL.into_iter().filter(|&role| role != Role::Handover);
        let role = roles.find(|known| known.name() == role).ok_or(wanted)?;
        let number = number.parse().ok().filter(|&number| number > 2).ok_or(wanted)?;
        Ok(Self { role, number })
    }
}

fn socket_path(text: &str) -> Result<PathBuf, String> {
    match text.len() {
        0 => Err("a path is wanted".into()),
        1..=PATH_LEN_MAX => Ok(text.into()),
        _ => Err(format!("a socket's path has {PATH_LEN_MAX} bytes at most")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inherited_descriptors_are_read_as_they_are_written() {
        let cases = [
            ("3", Some((Role::Js5, 3))),
            ("js5=7", Some((Role::Js5, 7))),
            ("js5-proxy=8", Some((Role::Js5Proxy, 8))),
            ("admin=4", Some((Role::Admin, 4))),
            ("handover=5", None),
            ("2", None),
            ("-1", None),
            ("admin", None),
            ("", None),
        ];
        for (text, expected) in cases {
            let read = text.parse::<InheritedFd>().ok().map(|fd| (fd.role, fd.number));
            assert_eq!(read, expected, "{text}");
        }
    }
}
