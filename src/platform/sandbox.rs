//! The sandbox limits what this process may still open (Landlock), and keeps it from gaining
//! privileges (`no_new_privs`).
//!
//! Landlock also restricts operations of the ring; a seccomp filter does not, because it sees
//! system calls only. Both bind the calling thread and the threads that it starts, so the sandbox
//! is entered before other threads are started.

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, LandlockStatus, NetPort,
    PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError,
    RulesetStatus, Scope,
};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The rights that are withdrawn are those this version of Landlock knows (Linux 6.12).
const KNOWN: ABI = ABI::V6;

/// What the process still needs.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    /// Directories and files that it reads.
    pub read: Vec<PathBuf>,
    /// Directories from which it removes its own sockets at the end.
    pub remove_sockets_from: Vec<PathBuf>,
    /// Ports to which it connects.
    pub connect: Vec<u16>,
    /// Whether a supervisor listens on an abstract socket.
    pub abstract_sockets: bool,
}

/// How far the system went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entered {
    /// Everything that was asked for holds.
    Whole,
    /// The kernel knows some of it only.
    Partly {
        /// What holds.
        what: String,
    },
}

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
pub enum SandboxMissing {
    /// Landlock is not there.
    #[error("the kernel has no Landlock")]
    NotInKernel,
    /// It is there and switched off.
    #[error("Landlock is switched off")]
    SwitchedOff,
    /// The system refuses it.
    #[error("the sandbox cannot be entered: {0}")]
    Refused(#[from] RulesetError),
    /// `no_new_privs` cannot be set.
    #[error("no_new_privs cannot be set: {0}")]
    Privileges(std::io::Error),
}

impl SandboxMissing {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NotInKernel => {
                "run a kernel of 5.13 or later with CONFIG_SECURITY_LANDLOCK, or use \
                 --sandbox best-effort"
            }
            Self::SwitchedOff => {
                "add landlock to the kernel's 'lsm=' option, or use --sandbox best-effort"
            }
            Self::Refused(_) | Self::Privileges(_) => {
                "look at the host's security policy, or use --sandbox off"
            }
        }
    }
}

/// Enters it. `no_new_privs` holds afterwards even where Landlock is missing.
///
/// # Errors
/// There is no Landlock, or the system refuses it.
pub fn enter(needs: &Needs) -> Result<Entered, SandboxMissing> {
    rustix::thread::set_no_new_privs(true)
        .map_err(|errno| SandboxMissing::Privileges(errno.into()))?;
    let status = rules(needs)?.restrict_self()?;
    match (status.ruleset, status.landlock) {
        (RulesetStatus::FullyEnforced, _) => Ok(Entered::Whole),
        (RulesetStatus::PartiallyEnforced, LandlockStatus::Available { effective_abi, .. }) => {
            Ok(Entered::Partly { what: format!("of version {effective_abi:?}") })
        }
        (_, LandlockStatus::NotEnabled) => Err(SandboxMissing::SwitchedOff),
        _ => Err(SandboxMissing::NotInKernel),
    }
}

/// Everything is withdrawn but what is needed.
fn rules(needs: &Needs) -> Result<RulesetCreated, RulesetError> {
    let mut scope = Scope::from_all(KNOWN);
    if needs.abstract_sockets {
        scope.remove(Scope::AbstractUnixSocket);
    }
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::from_all(KNOWN))?
        .scope(scope)?
        .create()?;
    let reading = AccessFs::ReadFile | AccessFs::ReadDir;
    for path in &needs.read {
        ruleset = allow(ruleset, path, reading)?;
    }
    for path in &needs.remove_sockets_from {
        ruleset = allow(ruleset, path, AccessFs::RemoveFile.into())?;
    }
    for &port in &needs.connect {
        ruleset = ruleset.add_rule(NetPort::new(port, AccessNet::ConnectTcp))?;
    }
    Ok(ruleset)
}

/// What is not there needs no permission.
fn allow(
    ruleset: RulesetCreated,
    path: &Path,
    access: landlock::BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    let Ok(parent) = PathFd::new(path) else { return Ok(ruleset) };
    // A file has no entries to read.
    let access = if path.is_dir() { access } else { access & AccessFs::from_file(KNOWN) };
    ruleset.add_rule(PathBeneath::new(parent, access))
}

impl Needs {
    /// In words, for the log and the status page.
    #[must_use]
    pub fn describe(&self) -> String {
        let list = |paths: &[PathBuf]| {
            let names: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
            names.join(", ")
        };
        let mut text = format!("reads {}; writes nothing", list(&self.read));
        if !self.remove_sockets_from.is_empty() {
            let dirs = list(&self.remove_sockets_from);
            let _ = write!(text, ", removes its sockets from {dirs}");
        }
        match &self.connect[..] {
            [] => text.push_str("; connects to nothing"),
            ports => {
                let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
                let _ = write!(text, "; connects to port {}", ports.join(", "));
            }
        }
        text
    }
}
