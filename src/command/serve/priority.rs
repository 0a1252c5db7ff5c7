//! The priority of the thread of game connections.

use crate::cli::RealtimeArg;
use crate::failure::{Exit, Failure};
use crate::platform::realtime;
use std::io;
use tracing::{info, warn};

/// What an operator can do if it is refused.
const REMEDY: &str = "allow it: LimitRTPRIO=1 and RestrictRealtime=no in the unit \
                      (deploy/systemd/game.conf), docker run --ulimit rtprio=1, or \
                      'ulimit -r 1' as root";

/// Gives the calling thread real-time priority, as far as it is wanted. Returns the result for the
/// status page.
pub(super) fn begin(wanted: RealtimeArg) -> Result<String, Failure> {
    match wanted {
        RealtimeArg::Off => Ok("ordinary".into()),
        RealtimeArg::BestEffort | RealtimeArg::Require => settle(wanted, realtime::enter()),
    }
}

fn settle(wanted: RealtimeArg, entered: io::Result<()>) -> Result<String, Failure> {
    match entered {
        Ok(()) => {
            info!("game connections: real-time priority");
            Ok("real-time".into())
        }
        Err(error) if wanted == RealtimeArg::Require => {
            let exit = match error.kind() {
                io::ErrorKind::PermissionDenied => Exit::Permission,
                _ => Exit::System,
            };
            let cause = format!("game connections get no real-time priority: {error}");
            Err(Failure::new(exit, cause, format!("{REMEDY}; or use --game-realtime best-effort")))
        }
        Err(error) => {
            warn!(
                "game connections: ordinary priority, so packets wait while JS5 uses every core: \
                 real-time priority is refused: {error}; {REMEDY}, or use --game-realtime off"
            );
            Ok(format!("ordinary: real-time priority is refused: {error}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(errno: i32) -> io::Result<()> {
        Err(io::Error::from_raw_os_error(errno))
    }

    #[test]
    fn a_refusal_ends_the_start_only_if_it_is_required() {
        let failure =
            settle(RealtimeArg::Require, refused(libc::EPERM)).expect_err("it is refused");
        assert_eq!(failure.exit, Exit::Permission);
        assert!(failure.remedy.contains("LimitRTPRIO=1"), "{failure}");
        let failure = settle(RealtimeArg::Require, refused(libc::ENOSYS)).expect_err("a filter's");
        assert_eq!(failure.exit, Exit::System);
        let note = settle(RealtimeArg::BestEffort, refused(libc::EPERM)).expect("it goes on");
        assert!(note.starts_with("ordinary: "), "{note}");
    }

    #[test]
    fn what_is_allowed_is_said() {
        for wanted in [RealtimeArg::BestEffort, RealtimeArg::Require] {
            assert_eq!(settle(wanted, Ok(())).expect("it is allowed"), "real-time");
        }
        assert_eq!(begin(RealtimeArg::Off).expect("nothing is asked for"), "ordinary");
    }
}
