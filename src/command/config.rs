//! `js5d config`: every setting, with its value and the source of the value.

use super::text::print;
use crate::cli::{ConfigArgs, ServeArgs};
use crate::config;
use crate::failure::Failure;
use crate::settings::{self, Origin, Resolved};
use std::fmt::Write;
use std::process::ExitCode;

/// Prints the settings. They have been read already, so that each is right by itself.
///
/// # Errors
/// With `--check`: they do not go with each other, or with this machine.
pub fn run(args: &ConfigArgs, settings: &[Resolved]) -> Result<ExitCode, Failure> {
    let page = if args.example {
        settings::example()
    } else if args.profiles {
        profiles(&args.serve)?
    } else if args.check {
        config::settle(&args.serve)?;
        config::game(&args.serve)?;
        let set = settings.iter().filter(|resolved| resolved.origin != Origin::Default).count();
        let count = settings.len();
        match set {
            0 => format!("the settings are right; all {count} have their defaults\n"),
            _ => format!(
                "the settings are right; {set} of {count} are set, the others as by default\n"
            ),
        }
    } else if args.json {
        format!("{:#}\n", settings::json(settings))
    } else {
        settings::table(settings)
    };
    print(page.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Every profile as a table of the settings file.
fn profiles(args: &ServeArgs) -> Result<String, Failure> {
    let served = config::clients(args)?;
    let mut text = format!("# Served: {}.\n", served.describe());
    for profile in config::profiles(&args.clients)? {
        let is_served = served.profiles().iter().any(|it| it.name == profile.name);
        let remark = if is_served { "  # served" } else { "" };
        // Writing to a string cannot fail.
        let _ = write!(text, "\n[profile.{}]{remark}\n", profile.name);
        for (field, value) in profile.fields() {
            let is_bare = value.parse::<u32>().is_ok() || value.parse::<bool>().is_ok();
            let value = if is_bare { value } else { format!("\"{value}\"") };
            let _ = writeln!(text, "{field} = {value}");
        }
    }
    Ok(text)
}
