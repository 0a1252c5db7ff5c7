//! Why a command ends without a result: cause, remedy, exit code.

use crate::verdict::Exit;
use std::fmt;

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
