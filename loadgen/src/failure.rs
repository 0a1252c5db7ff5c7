//! How a command ends: its exit code, and for a failure the cause and the remedy.

use std::fmt;

/// What helps where there is no ring. A slower way to the kernel would measure itself.
pub(crate) const RING_REMEDY: &str = "The generator measures through io_uring, and through nothing \
    else: allow it (kernel.io_uring_disabled = 0, no seccomp filter against it), or run the \
    generator on another host than the server.";

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All that was asked for holds.
    Good,
    /// A defect of this program.
    Bug,
    /// The command line or a file is wrong.
    Usage,
    /// The server sent what it must not, or stopped answering.
    Wrong,
    /// An assertion was missed.
    Missed,
    /// The generator could not measure what was asked for.
    Invalid,
    /// The run could not begin.
    Setup,
    /// A signal ended it.
    Interrupted,
}

impl Exit {
    /// For the shell.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Good => 0,
            Self::Bug => 1,
            Self::Usage => 2,
            Self::Wrong => 3,
            Self::Missed => 4,
            Self::Invalid => 5,
            Self::Setup => 6,
            Self::Interrupted => 130,
        }
    }

    /// In words.
    pub(crate) const fn meaning(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bug => "a defect of this program",
            Self::Usage => "the command line or a file is wrong",
            Self::Wrong => "the server sent what it must not, or stopped answering",
            Self::Missed => "an assertion was missed",
            Self::Invalid => "the measurement is invalid",
            Self::Setup => "the run could not begin",
            Self::Interrupted => "interrupted",
        }
    }
}

/// A command that cannot do its work.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// What happened.
    pub(crate) cause: String,
    /// What to do about it.
    pub(crate) remedy: String,
}

impl Failure {
    /// The command line or a file is wrong.
    pub(crate) fn usage(cause: impl fmt::Display, remedy: &str) -> Self {
        Self { exit: Exit::Usage, cause: cause.to_string(), remedy: remedy.to_owned() }
    }

    /// The run cannot begin.
    pub(crate) fn setup(cause: impl fmt::Display, remedy: &str) -> Self {
        Self { exit: Exit::Setup, cause: cause.to_string(), remedy: remedy.to_owned() }
    }

    /// The server sent what it must not.
    pub(crate) fn wrong(cause: impl fmt::Display, remedy: &str) -> Self {
        Self { exit: Exit::Wrong, cause: cause.to_string(), remedy: remedy.to_owned() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "js5-loadgen: {}", self.cause)?;
        write!(f, "  {}", self.remedy)
    }
}
