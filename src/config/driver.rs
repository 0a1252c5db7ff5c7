//! Which driver serves: what was asked for, and what this host allows.

use crate::cache::Reading;
use crate::cli::DriverArg;
use crate::failure::Failure;
use crate::net::Driver;
use crate::platform::probe::{self, RingMissing};
use std::fmt;

/// The driver, and how it came to be chosen.
#[derive(Debug)]
pub struct Choice {
    /// The workers' and the game thread's.
    pub driver: Driver,
    /// Why it is not the ring, if that was to be tried first.
    pub missing: Option<RingMissing>,
}

impl Choice {
    /// What was asked for, as far as this host allows it.
    ///
    /// # Errors
    /// It is to be the ring, and there is none.
    pub fn of(wanted: DriverArg) -> Result<Self, Failure> {
        let (driver, missing) = match wanted {
            DriverArg::Epoll => (Driver::Epoll, None),
            DriverArg::Ring => {
                probe::ring()?;
                (Driver::Ring, None)
            }
            DriverArg::Auto => match probe::ring() {
                Ok(()) => (Driver::Ring, None),
                Err(missing) => (Driver::Epoll, Some(missing)),
            },
        };
        Ok(Self { driver, missing })
    }

    /// How this driver reads a cache.
    #[must_use]
    pub fn reading(&self) -> Reading {
        match self.driver {
            Driver::Ring => Reading::Ring,
            Driver::Epoll => Reading::Plain,
        }
    }

    /// What is lost and what would mend it, if the ring was to be tried and is not there.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        self.missing.as_ref().map(|_| {
            format!(
                "driver: {self}. Epoll serves the same bytes, and takes more CPU and memory \
                 (docs/operations/launch.md, \"Hosts that deny io_uring\")"
            )
        })
    }
}

/// The driver's name; and if the ring was to be tried first and is not there, why, and what would
/// mend it.
impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.driver.name())?;
        match &self.missing {
            None => Ok(()),
            Some(missing) => write!(f, ": {missing}; for the ring, {}", missing.remedy()),
        }
    }
}
