//! `js5d status` and `js5d reload`: what they ask a running server, and how they print the answer.

use super::summary::summary;
use super::text::print;
use crate::admin::Address;
use crate::admin::client::{self, Answer};
use crate::cli::{ReloadArgs, StatusArgs};
use crate::failure::{Exit, Failure};
use hyper::Method;
use serde_json::Value as Json;
use std::process::ExitCode;
use std::time::Duration;

/// How long a server may take to print its state. A reload has no such limit.
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);

/// What `--json` asks for: the history is the page's.
const WITHOUT_HISTORY: &str = "/status.json?since=18446744073709551615";

/// Prints the state of a server; the exit code is 0 if it answers, whatever it says.
///
/// # Errors
/// It does not answer, or not as a js5d does.
pub fn status(args: &StatusArgs) -> Result<ExitCode, Failure> {
    let answer = ask(&args.admin, Method::GET, WITHOUT_HISTORY, Some(STATUS_TIMEOUT))?;
    let parsed = serde_json::from_str(&answer.text).ok().filter(|_| answer.status == 200);
    let status: Json = parsed.ok_or_else(|| {
        let (admin, code) = (&args.admin, answer.status);
        let cause = format!("{admin} answers with HTTP status {code}, not with a js5d's state");
        Failure::new(Exit::System, cause, "name the admin address of a js5d with --admin")
    })?;
    if args.json {
        print(format!("{status:#}\n").as_bytes())?;
    } else {
        print(summary(&status).as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks a server to reload, and waits for the result.
///
/// # Errors
/// It does not answer, or keeps the old content.
pub fn reload(args: &ReloadArgs) -> Result<ExitCode, Failure> {
    let Answer { status, text } = ask(&args.admin, Method::POST, "/reload", None)?;
    let text = text.trim_end();
    let (exit, remedy) = match status {
        200 => {
            print(format!("{text}\n").as_bytes())?;
            return Ok(ExitCode::SUCCESS);
        }
        422 => {
            (Exit::CorruptCache, "the old cache is still served; repair the new one and try again")
        }
        409 => (Exit::System, "wait for it to end"),
        _ => (Exit::System, "look at the server's log"),
    };
    Err(Failure::new(exit, format!("no reload: {text}"), remedy))
}

fn ask(
    address: &Address,
    method: Method,
    path: &str,
    timeout: Option<Duration>,
) -> Result<Answer, Failure> {
    client::ask(address, method, path, timeout).map_err(|error| {
        let exit = match error.kind() {
            std::io::ErrorKind::PermissionDenied => Exit::Permission,
            _ => Exit::System,
        };
        let remedy = "is js5d running with this --admin address?";
        Failure::new(exit, format!("{address} does not answer: {error}"), remedy)
    })
}
