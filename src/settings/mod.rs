//! Settings from four sources, from the weakest to the strongest: defaults, the settings file,
//! `JS5D_*` variables, options.
//!
//! Every long option of `serve` is a setting, found in clap's own description of it. So an option
//! that is declared in `cli.rs` has its key in the file, its variable, its line in `js5d config`,
//! its place in the example file and its row in docs/settings.md without further code. Each value
//! of the file or a variable is checked by the option's own parser, so that an error names its
//! place. Then it becomes the option's default, before the command line is read.

mod environment;
mod file;
mod print;
mod setting;

pub use print::{example, json, markdown, table};
pub use setting::{Kind, Setting, all};

use crate::cli::Cli;
use crate::failure::{Exit, Failure};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, CommandFactory, FromArgMatches};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;

/// The option that names the file. It is no setting: a file does not name another.
const FILE_OPTION: &str = "config";

/// Its variable.
const FILE_VARIABLE: &str = "JS5D_CONFIG";

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The program.
    Default,
    /// A line of the settings file, counted from 1.
    File(PathBuf, usize),
    /// A variable.
    Variable(String),
    /// An option.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// What a layer says about one setting.
#[derive(Clone, Debug)]
struct Layer {
    values: Vec<OsString>,
    origin: Origin,
}

/// What file and variables say, by key; the stronger has replaced the weaker.
type Layers = BTreeMap<String, Layer>;

/// A setting with the value that holds.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// Which.
    pub setting: Setting,
    /// As they were written; none if it is not set. One, but for lists.
    pub values: Vec<String>,
    /// Where the value comes from.
    pub origin: Origin,
}

/// Something wrong with what file or variables say.
#[derive(Debug)]
struct Problem {
    /// `js5d.toml:3:1`, or the variable.
    place: String,
    what: String,
}

/// One line, whatever the value is: a line break or an escape sequence in it is spelt out.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in format!("{}: {}", self.place, self.what).chars() {
            if c.is_control() { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
        }
        Ok(())
    }
}

/// The command line, together with what the weaker layers say.
#[derive(Debug)]
pub struct Parsed {
    /// The command and its options.
    pub cli: Cli,
    /// Every setting of the command with its origin; none for a command without settings.
    pub settings: Vec<Resolved>,
}

/// Why there is no command to run.
#[derive(Debug)]
pub enum Fault {
    /// The command line is wrong, or asks for help.
    Usage(Box<clap::Error>),
    /// The file or a variable is wrong.
    Setting(Failure),
}

impl From<clap::Error> for Fault {
    fn from(error: clap::Error) -> Self {
        Self::Usage(Box::new(error))
    }
}

/// Reads the command line, and for commands with settings the variables and the file.
///
/// # Errors
/// Something of it is wrong, or help is asked for.
pub fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Parsed, Fault> {
    let arguments: Vec<_> = arguments.into_iter().collect();
    // What is missing here can still come from the file, and only the command line names that.
    let lenient = each_setting(command(), &|arg, _| arg.required(false));
    let first = lenient.try_get_matches_from(&arguments)?;
    let options = options_of_command(&first);
    if !has_settings(options) {
        let cli = Cli::from_arg_matches(&first)?;
        return Ok(Parsed { cli, settings: Vec::new() });
    }
    let named = options.get_one::<PathBuf>(FILE_OPTION).cloned();
    let layers = read_layers(named, variables).map_err(Fault::Setting)?;
    let layered = each_setting(command(), &|arg, setting| match layers.get(&setting.key) {
        Some(layer) => arg.default_values(layer.values.clone()).required(false),
        None => arg,
    });
    let matches = layered.try_get_matches_from(&arguments)?;
    let settings = resolve(options_of_command(&matches), &layers);
    Ok(Parsed { cli: Cli::from_arg_matches(&matches)?, settings })
}

/// The command line of `cli.rs`, with flags that can also be taken back: `--skip-corrupt=false`.
pub fn command() -> Command {
    each_setting(Cli::command(), &|arg, setting| match setting.kind {
        Kind::Switch => arg
            .action(clap::ArgAction::Set)
            .value_parser(setting.parser())
            .value_name("true|false")
            .num_args(0..=1)
            .require_equals(true)
            .default_value("false")
            .default_missing_value("true")
            .hide_default_value(true)
            .hide_possible_values(true),
        Kind::One | Kind::Many => arg,
    })
}

/// Changes each setting's option, in each command that has settings.
fn each_setting(command: Command, change: &dyn Fn(Arg, &Setting) -> Arg) -> Command {
    let settings = all();
    let change_all = |command: Command| {
        if !command.get_arguments().any(|arg| arg.get_id() == FILE_OPTION) {
            return command;
        }
        command.mut_args(|arg| {
            let setting = settings.iter().find(|setting| arg.get_id() == setting.id.as_str());
            match setting {
                Some(setting) => change(arg, setting),
                None => arg,
            }
        })
    };
    change_all(command).mut_subcommands(change_all)
}

/// The options of the command that is to run: `serve` needs no name.
fn options_of_command(matches: &ArgMatches) -> &ArgMatches {
    matches.subcommand().map_or(matches, |(_, options)| options)
}

fn has_settings(options: &ArgMatches) -> bool {
    let is_set = |id: &str| options.try_get_one::<bool>(id).is_ok_and(|flag| flag == Some(&true));
    // The example is printed even if the present file is wrong.
    options.try_contains_id(FILE_OPTION).is_ok() && !is_set("example")
}

fn read_layers(
    named: Option<PathBuf>,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Layers, Failure> {
    let settings = all();
    let environment = environment::read(variables, &settings);
    let mut problems = environment.problems;
    let mut layers = Layers::new();
    if let Some(path) = named.or(environment.file) {
        let (said, wrong) = file::read(&path, &settings)?;
        layers = said;
        problems.splice(0..0, wrong);
    }
    if problems.is_empty() {
        layers.extend(environment.layers);
        return Ok(layers);
    }
    let lines: Vec<_> = problems.iter().map(Problem::to_string).collect();
    let cause = match &lines[..] {
        [line] => line.clone(),
        lines => format!("{} settings are wrong\n  {}", lines.len(), lines.join("\n  ")),
    };
    let remedy =
        "correct what is wrong; 'js5d config --example' prints every setting with its default";
    Err(Failure::new(Exit::Config, cause, remedy))
}

/// What is wrong with a settings file of this text, a line a problem.
pub fn problems_in(text: &str) -> Vec<String> {
    let (_, problems) = file::of_text("js5d.toml".as_ref(), text, &all());
    problems.iter().map(Problem::to_string).collect()
}

fn resolve(options: &ArgMatches, layers: &Layers) -> Vec<Resolved> {
    let resolved = |setting: Setting| {
        // `check` has fewer settings than `serve`.
        let given = options.try_get_raw(&setting.id).ok()?;
        let is_flag = options.value_source(&setting.id) == Some(ValueSource::CommandLine);
        let origin = match layers.get(&setting.key) {
            _ if is_flag => Origin::Flag(setting.flag.clone()),
            Some(layer) => layer.origin.clone(),
            None => Origin::Default,
        };
        let text = |value: &OsStr| setting.plain(&value.to_string_lossy());
        let values = given.into_iter().flatten().map(text).collect();
        Some(Resolved { setting, values, origin })
    };
    all().into_iter().filter_map(resolved).collect()
}

/// Where the settings that `text` names by their flags come from, if not from there: for
/// failures that are found when settings are looked at together.
pub fn origins_of(text: &str, settings: &[Resolved]) -> Vec<String> {
    let words = || text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    let is_elsewhere =
        |resolved: &&Resolved| !matches!(resolved.origin, Origin::Default | Origin::Flag(_));
    settings
        .iter()
        .filter(|resolved| words().any(|word| word == resolved.setting.flag))
        .filter(is_elsewhere)
        .map(|Resolved { setting, origin, .. }| format!("{} comes from {origin}", setting.flag))
        .collect()
}

/// The known name that `name` was probably meant to be.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // As clap judges misspelt options.
    const LIKENESS_MIN: f64 = 0.7;
    let plain = |name: &str| name.replace('-', "_").to_lowercase();
    let likeness = |other: &str| strsim::jaro(&plain(name), &plain(other));
    known
        .map(|other| (likeness(other), other))
        .filter(|(likeness, _)| *likeness > LIKENESS_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, other)| other)
}

/// ` did you mean …?`, if something is near.
fn suggestion<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    nearest(name, known).map_or_else(String::new, |near| format!("; did you mean '{near}'?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 5,000 files, each the uncommented example with up to eight bytes replaced, taken out or
    /// put in.
    #[test]
    fn a_damaged_file_is_refused_in_order_or_read() {
        let example = example();
        let mut sound = String::new();
        for line in example.lines().map(|line| line.strip_prefix('#').unwrap_or(line)) {
            if line.contains(" = ") && !line.starts_with(' ') {
                sound.push_str(line);
                sound.push('\n');
            }
        }
        assert_eq!(problems_in(&sound), [""; 0]);
        let mut rng = fastrand::Rng::with_seed(0x4A53_3544);
        let alphabet = b"=[]{}'\"#.,-_0123456789aex\n\\ \xC3\xB6";
        let mut refused = 0;
        for _ in 0..5_000 {
            let mut bytes = sound.clone().into_bytes();
            for _ in 0..rng.usize(1..=8) {
                let at = rng.usize(..bytes.len());
                let byte = alphabet[rng.usize(..alphabet.len())];
                match rng.u8(..3) {
                    0 => bytes[at] = byte,
                    1 => drop(bytes.remove(at)),
                    _ => bytes.insert(at, byte),
                }
            }
            let problems = problems_in(&String::from_utf8_lossy(&bytes));
            for problem in &problems {
                assert!(problem.starts_with("js5d.toml:"), "{problem}");
                assert_eq!(problem.lines().count(), 1, "{problem}");
            }
            refused += usize::from(!problems.is_empty());
        }
        assert!(refused > 2_500, "most damage is seen: {refused}");
    }
}
