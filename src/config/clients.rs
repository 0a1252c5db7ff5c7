//! From options to the clients that are served, and to what is loaded for them.

use crate::catalog::{Readers, STORED_MASTER_LEN_MAX};
use crate::cli::{ClientArgs, Command, LIKE, PrefetchBit, ServeArgs};
use crate::failure::{Exit, Failure};
use crate::protocol::profile::{Mark, ProfileError, table};
use crate::protocol::rsa::{KEY_TEXT_LEN_MAX, RsaKey};
use crate::protocol::{Builds, Clients, Profile};
use crate::settings::{self, Fault};
use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt::Display;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;

/// Room for a trailer that a stored master index may have.
const TRAILER_LEN_MAX: usize = 2;

/// Every profile: those of the table as the options change them, the operator's own first.
///
/// # Errors
/// One contradicts itself, or is like none that there is.
pub fn profiles(args: &ClientArgs) -> Result<Vec<Profile>, Failure> {
    let mut known = table::all();
    let mut own: Vec<Profile> = Vec::new();
    for setting in &args.profile {
        let is_it = |profile: &&mut Profile| profile.name == setting.name;
        if let Some(profile) = own.iter_mut().chain(&mut known).find(is_it) {
            if setting.field != LIKE {
                set(profile, &setting.field, &setting.value)?;
                continue;
            }
            let cause = format!("--profile {}.like: the profile exists already", setting.name);
            let remedy = "set 'like' of a new profile only, before its other fields";
            return Err(failure(cause, remedy));
        }
        let base = match setting.field == LIKE {
            true => known.iter().chain(&own).find(|profile| profile.name == setting.value),
            false => known.iter().find(|profile| profile.builds.contains(&550)),
        };
        let Some(base) = base.cloned() else {
            let (name, value) = (&setting.name, &setting.value);
            let cause = format!("--profile {name}.like: there is no profile '{value}'");
            return Err(failure(cause, "'js5d config --profiles' lists all profiles"));
        };
        // Its builds must be said, or it would take those of the one that it is like.
        #[allow(
            clippy::reversed_empty_ranges,
            reason = "a range without builds, until they are said"
        )]
        let builds = 1..=0;
        let mut profile = Profile { name: Cow::Owned(setting.name.clone()), builds, ..base };
        if setting.field != LIKE {
            set(&mut profile, &setting.field, &setting.value)?;
        }
        own.push(profile);
    }
    if let Some(profile) = own.iter().find(|profile| profile.builds.is_empty()) {
        let cause = format!("profile {} has no builds", profile.name);
        return Err(failure(cause, format!("set them: --profile {}.builds=700", profile.name)));
    }
    let marked = match args.prefetch_bit {
        PrefetchBit::Auto => None,
        PrefetchBit::On => Some(true),
        PrefetchBit::Off => Some(false),
    };
    own.extend(known);
    for profile in &mut own {
        profile.mark = match (marked, profile.framing.is_multi()) {
            (None, _) => profile.mark,
            (Some(false), _) => Mark::Never,
            (Some(true), false) => Mark::TypeBit,
            (Some(true), true) => Mark::GroupBit,
        };
        profile.check().map_err(in_config)?;
    }
    Ok(own)
}

/// The profiles of the server that has this settings file, for who speaks to it as its client;
/// without a file those of the table.
///
/// # Errors
/// The file cannot be read, or something in it is wrong.
pub fn profiles_of_file(path: Option<&Path>) -> Result<Vec<Profile>, Failure> {
    let Some(path) = path else { return Ok(table::all()) };
    let command = ["js5d", "config", "--config"].map(OsString::from);
    // The file alone counts: variables are the server's.
    let parsed = settings::parse(command.into_iter().chain([path.into()]), []);
    let cli = match parsed {
        Ok(parsed) => parsed.cli,
        Err(Fault::Setting(failure)) => return Err(failure),
        Err(Fault::Usage(error)) => {
            let cause = format!("--profiles {}: {error}", path.display());
            return Err(failure(cause, "'js5d config --check --config FILE' checks the file"));
        }
    };
    match cli.command {
        Some(Command::Config(config)) => profiles(&config.serve.clients),
        _ => Ok(table::all()),
    }
}

/// The clients that are served.
///
/// # Errors
/// As [`profiles`], or builds are asked for that no profile has.
pub fn clients(args: &ServeArgs) -> Result<Clients, Failure> {
    let queue_len_max = args.limits.queue_len_max;
    let args = &args.clients;
    let clients = Clients::new(profiles(args)?, builds(args), queue_len_max).map_err(in_config)?;
    let tokens = args.token.iter().map(|token| (token.builds.clone(), token.token.clone()));
    Ok(clients.with_tokens(tokens.collect()))
}

/// For whom a cache is to be loaded, with what their master index takes from files.
///
/// # Errors
/// A file cannot be read, or does not hold what it should.
pub fn readers(args: &ServeArgs, clients: &Clients) -> Result<Readers, Failure> {
    let args = &args.clients;
    let key = args.rsa_key.as_deref().map(rsa_key).transpose()?;
    let readers = Readers::new(clients.profiles().to_vec()).signed_with(key);
    with_stored_master(readers, args.master_index.as_deref())
}

/// The same readers, with the master index that a file holds at this moment.
///
/// # Errors
/// It cannot be read.
pub fn with_stored_master(readers: Readers, path: Option<&Path>) -> Result<Readers, Failure> {
    let Some(path) = path else { return Ok(readers) };
    let stored = read(path, "--master-index", STORED_MASTER_LEN_MAX + TRAILER_LEN_MAX)?;
    Ok(readers.with_stored_master(Some(stored.into())))
}

fn rsa_key(path: &Path) -> Result<Arc<RsaKey>, Failure> {
    let text = read(path, "--rsa-key", KEY_TEXT_LEN_MAX)?;
    let key = RsaKey::parse(&String::from_utf8_lossy(&text)).map_err(|error| {
        let cause = format!("--rsa-key {}: {error}", path.display());
        let remedy = "name a private key, as PEM or as modulus and private exponent; without one \
                      master indexes are not signed";
        failure(cause, remedy)
    })?;
    Ok(Arc::new(key))
}

fn read(path: &Path, option: &str, len_max: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = File::open(path)
        .and_then(|file| file.take(len_max as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| {
            let (exit, remedy) = match error.kind() {
                ErrorKind::PermissionDenied => {
                    (Exit::Permission, "let the server's user read the file")
                }
                _ => (Exit::Config, "name a file that is there, or leave the option out"),
            };
            Failure::new(exit, format!("{option} {}: {error}", path.display()), remedy)
        })?;
    if read > len_max {
        let cause = format!("{option} {}: longer than {len_max} bytes", path.display());
        return Err(failure(cause, "name another file"));
    }
    Ok(bytes)
}

fn builds(args: &ClientArgs) -> Builds {
    let mut all = Vec::new();
    for build in &args.build {
        match &build.0 {
            Builds::Any => return Builds::Any,
            Builds::Only(ranges) => all.extend(ranges.iter().cloned()),
        }
    }
    Builds::Only(all)
}

fn set(profile: &mut Profile, field: &str, value: &str) -> Result<(), Failure> {
    let name = profile.name.to_string();
    profile.set(field, value).map_err(|error| {
        failure(format!("--profile {name}: {error}"), "'js5d config --profiles' prints every field")
    })
}

fn in_config(error: ProfileError) -> Failure {
    let remedy = match &error {
        ProfileError::UnknownBuilds { .. } => {
            "leave them out of --build, or say what they speak in a table [profile.NAME] with \
             builds (docs/clients.md)"
        }
        ProfileError::Contradiction { .. } => "'js5d config --profiles' prints every field",
        ProfileError::TooMany { .. } => "serve fewer builds, or define fewer profiles",
    };
    failure(error, remedy)
}

fn failure(cause: impl Display, remedy: impl Display) -> Failure {
    Failure::new(Exit::Config, cause, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::Parser;

    fn args(options: &[&str]) -> ServeArgs {
        let all = ["js5d"].iter().chain(options);
        Cli::try_parse_from(all).expect("well formed").serve
    }

    fn of(options: &[&str]) -> Result<Clients, Failure> {
        clients(&args(options))
    }

    #[test]
    fn a_field_of_a_known_profile_can_be_changed() {
        let clients = of(&["--build", "718", "--profile", "rs2-718.ints=3"]).expect("right");
        assert_eq!(clients.profiles().len(), 1);
        assert_eq!(clients.profiles()[0].ints, [1, 1, 1]);
    }

    #[test]
    fn a_profile_of_ones_own_comes_before_the_table() {
        let own = ["--profile", "own.like=rs2-718", "--profile", "own.builds=700..=800"];
        let clients = of(&[&["--build", "718,800"], &own[..]].concat()).expect("right");
        let names: Vec<_> = clients.profiles().iter().map(|p| p.name.to_string()).collect();
        assert_eq!(names, ["own", "rs2-718"]);
        assert_eq!(clients.profiles()[0].ints.len(), 27);
    }

    #[test]
    fn what_cannot_be_is_said_with_a_remedy() {
        let cases: &[(&[&str], &str)] = &[
            (&["--build", "800"], "no profile says what builds 800 to 800 speak"),
            (&["--build", "0..=3"], "no profile says what builds 0 to 0 speak"),
            (&["--profile", "own.ints=3"], "profile own has no builds"),
            (&["--profile", "own.like=mine"], "--profile own.like: there is no profile 'mine'"),
            (
                &["--profile", "rs2-718.like=osrs"],
                "--profile rs2-718.like: the profile exists already",
            ),
            (
                &["--profile", "rs2-530.answer=multi-512"],
                "profile rs2-530: with an answer of multi-* the prefetch bit stands in the group",
            ),
        ];
        for (options, message) in cases {
            let error = of(options).expect_err(message);
            assert!(error.cause.starts_with(message), "{error}");
            assert_eq!(error.exit, Exit::Config);
        }
    }

    #[test]
    fn the_prefetch_bit_of_all_profiles_can_be_forced() {
        for (when, mark) in
            [("auto", Mark::ByFirstOp6), ("on", Mark::TypeBit), ("off", Mark::Never)]
        {
            let clients = of(&["--build", "474", "--prefetch-bit", when]).expect("right");
            assert_eq!(clients.profiles()[0].mark, mark, "{when}");
        }
        let clients = of(&["--build", "any", "--prefetch-bit", "on"]).expect("right");
        assert!(clients.profiles().iter().all(|profile| profile.check().is_ok()));
    }
}
