//! Options on whom is served: builds, what they speak, and what their master index is signed with.

use crate::protocol::handshake::{TOKEN_LEN_MAX, parse_builds};
use crate::protocol::profile::is_token;
use crate::protocol::profile::table::family;
use crate::protocol::{Builds, Profile};
use clap::{Args, ValueEnum};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

/// Profiles have short names: they are labels, too.
const NAME_LEN_MAX: usize = 32;

/// The option that sets a field of a profile; in the file, tables say the same.
pub const PROFILE_KEY: &str = "profile";

/// Whom to serve.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Clients")]
pub struct ClientArgs {
    /// Builds to serve: one (550), a range (1..=399), several of these (530,634), oldschool,
    /// nxt, or 'any': every build that a profile describes. Clients of other builds are refused
    /// with status 6, out of date
    #[arg(long, value_name = "BUILDS", default_value = "550")]
    pub build: Vec<BuildArg>,

    /// Whether prefetch responses carry the prefetch bit
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub prefetch_bit: PrefetchBit,

    /// Field of a profile to change, such as rs2-718.ints=0. A profile says what the clients of
    /// some builds speak; a name that no profile has makes a new one (docs/clients.md). In the
    /// file, write [profile.NAME] tables [default: none is changed]
    #[arg(long, value_name = "NAME.FIELD=VALUE")]
    pub profile: Vec<ProfileArg>,

    /// Token that clients of a build must send (742=TOKEN, or a range of builds); clients with
    /// another token are refused [default: any token is accepted]
    #[arg(long, value_name = "BUILDS=TOKEN")]
    pub token: Vec<TokenArg>,

    /// File with the RSA key that signs master indexes of builds from 633 on: PEM, or modulus and
    /// private exponent, each on its own line, decimal or hexadecimal [default: nothing is signed]
    #[arg(long, value_name = "FILE")]
    pub rsa_key: Option<PathBuf>,

    /// File with the stored group 255/255 of this cache, to be served unchanged [default: js5d
    /// makes that group]
    #[arg(long, value_name = "FILE")]
    pub master_index: Option<PathBuf>,
}

/// Builds, or any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildArg(pub Builds);

impl FromStr for BuildArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "any" {
            return Ok(Self(Builds::Any));
        }
        let ranges = text.split(',').map(|part| {
            let part = part.trim();
            parse_builds(part).or_else(|| family(part)).ok_or_else(|| {
                format!(
                    "'{part}' is no build: write 550, 1..=399, 530,634, 'oldschool', 'nxt', or \
                     'any'"
                )
            })
        });
        ranges.collect::<Result<_, _>>().map(Builds::Only).map(Self)
    }
}

/// When prefetch responses carry the prefetch bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PrefetchBit {
    /// As the profile of the client says
    Auto,
    /// To every client
    On,
    /// To none
    Off,
}

/// A field of a profile, and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileArg {
    /// The profile.
    pub name: String,
    /// The field, or `like`.
    pub field: String,
    /// What it is set to.
    pub value: String,
}

/// Not a field: the profile that a new one is a copy of.
pub const LIKE: &str = "like";

impl FromStr for ProfileArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let how = "write it as NAME.FIELD=VALUE: rs2-718.ints=0";
        let (place, value) = text.split_once('=').ok_or_else(|| how.to_owned())?;
        let (name, field) = place.split_once('.').ok_or_else(|| how.to_owned())?;
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > NAME_LEN_MAX || !name.chars().all(is_plain) {
            return Err(format!(
                "'{name}' is no name for a profile: {NAME_LEN_MAX} of a-z, 0-9 and '-' at most"
            ));
        }
        if field != LIKE {
            // Whether it is a value of this field does not depend on the profile.
            Profile::build_550().set(field, value)?;
        }
        let [name, field, value] = [name, field, value].map(str::to_owned);
        Ok(Self { name, field, value })
    }
}

/// The token of clients of some builds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenArg {
    /// Of which.
    pub builds: RangeInclusive<u32>,
    /// What they show.
    pub token: String,
}

impl FromStr for TokenArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let how = || "write it as BUILDS=TOKEN: 742=abc, or 701..=741=abc".to_owned();
        // The token may hold '=', and so does a range.
        let after_range = text.find("..=").map_or(0, |at| at + 3);
        let at = text.get(after_range..).and_then(|rest| rest.find('=')).ok_or_else(how)?;
        let (builds, token) = text.split_at(after_range + at);
        let builds = parse_builds(builds).ok_or_else(how)?;
        let token = token.strip_prefix('=').unwrap_or_default().to_owned();
        if !is_token(&token) {
            return Err(format!("a token has 1 to {TOKEN_LEN_MAX} characters"));
        }
        Ok(Self { builds, token })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_are_read_one_several_or_any() {
        let only = |ranges: &[RangeInclusive<u32>]| Ok(BuildArg(Builds::Only(ranges.to_vec())));
        assert_eq!("any".parse(), Ok(BuildArg(Builds::Any)));
        assert_eq!("550".parse(), only(&[550..=550]));
        assert_eq!("530, 634".parse(), only(&[530..=530, 634..=634]));
        assert_eq!("1..=399,926..".parse(), only(&[1..=399, 926..=u32::MAX]));
        assert_eq!("oldschool, nxt".parse(), only(&[1..=399, 914..=u32::MAX]));
        for wrong in ["", "osrs", "1-399", "1..399", "9..=3", "-1", "550,", "all"] {
            let error = wrong.parse::<BuildArg>().expect_err(wrong);
            assert!(error.contains("is no build: write 550, 1..=399"), "{error}");
        }
    }

    #[test]
    fn a_token_may_hold_what_separates_it() {
        let token = |builds, token: &str| Ok(TokenArg { builds, token: token.to_owned() });
        assert_eq!("742=a=b".parse(), token(742..=742, "a=b"));
        assert_eq!("701..=741=a".parse(), token(701..=741, "a"));
        for wrong in ["742", "742=", "=a", "x=a", &format!("742={}", "a".repeat(65))] {
            assert!(wrong.parse::<TokenArg>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_field_is_checked_where_it_is_given() {
        let cases = [
            ("rs2-718", "write it as NAME.FIELD=VALUE"),
            ("rs2-718=3", "write it as NAME.FIELD=VALUE"),
            ("My.ints=3", "'My' is no name for a profile"),
            (".ints=3", "'' is no name for a profile"),
            ("own.int=3", "'int' is no field of a profile"),
            ("own.ints=many", "ints = 'many': how many (27)"),
        ];
        for (text, message) in cases {
            let error = text.parse::<ProfileArg>().expect_err(text);
            assert!(error.starts_with(message), "{error}");
        }
        let arg: ProfileArg = "own.builds=700..=750".parse().expect("right");
        assert_eq!([&arg.name[..], &arg.field, &arg.value], ["own", "builds", "700..=750"]);
    }
}
