//! Listening sockets that the process inherits: those of `--inherit-fds`, and those of systemd's
//! socket activation, which it finds by itself.

use super::sockets::Socket;
use crate::cli::{InheritedFd, RestartArgs, Role};
use crate::failure::{Exit, Failure};
use crate::platform::descriptors;

/// Takes them into possession. To be called before the process opens anything.
pub(super) fn take(args: &RestartArgs) -> Result<Vec<Socket>, Failure> {
    let mut all = args.inherit_fds.clone();
    let activated = sd_notify::listen_fds_with_names().map_err(|error| {
        let cause = format!("the supervisor's LISTEN_FDS cannot be used: {error}");
        Failure::new(Exit::Config, cause, "unset LISTEN_FDS, LISTEN_PID and LISTEN_FDNAMES")
    })?;
    for (number, name) in activated {
        all.push(InheritedFd { role: role(&name)?, number });
    }
    let numbers: Vec<_> = all.iter().map(|fd| fd.number).collect();
    let descriptors = descriptors::take_inherited(&numbers).map_err(|(number, error)| {
        let cause = format!("descriptor {number} cannot be inherited: {error}");
        Failure::new(Exit::Config, cause, "name the number of a listening socket that is open")
    })?;
    let own =
        |(descriptor, fd): (_, &InheritedFd)| Socket { role: fd.role, kept: true, descriptor };
    Ok(descriptors.into_iter().zip(&all).map(own).collect())
}

/// What a unit's socket is for, by its `FileDescriptorName=`, which is the socket unit's own name
/// unless it is set.
fn role(name: &str) -> Result<Role, Failure> {
    let mut roles = Role::ALL.into_iter().filter(|&role| role != Role::Handover);
    match roles.find(|role| role.name() == name) {
        Some(role) => Ok(role),
        None if name == "unknown" || name.is_empty() || name.ends_with(".socket") => Ok(Role::Js5),
        None => {
            let cause =
                format!("the supervisor passes a socket named '{name}', which js5d does not know");
            let remedy = "write FileDescriptorName=js5, js5-proxy or admin";
            Err(Failure::new(Exit::Config, cause, remedy))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_that_names_nothing_means_js5() {
        for (name, expected) in [
            ("js5", Some(Role::Js5)),
            ("js5d.socket", Some(Role::Js5)),
            ("unknown", Some(Role::Js5)),
            ("js5-proxy", Some(Role::Js5Proxy)),
            ("admin", Some(Role::Admin)),
            ("handover", None),
            ("http", None),
        ] {
            assert_eq!(role(name).ok(), expected, "{name}");
        }
    }
}
