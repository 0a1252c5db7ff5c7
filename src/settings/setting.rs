//! What a setting is: an option of `serve`, as clap describes it.

use crate::cli::ServeArgs;
use clap::builder::{BoolishValueParser, ValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Args, Command};
use std::error::Error;
use std::ffi::OsStr;

/// How many values a setting has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// True or false.
    Switch,
    /// One, or none.
    One,
    /// A list.
    Many,
}

/// A setting.
#[derive(Clone, Debug)]
pub struct Setting {
    /// clap's name of it.
    pub id: String,
    /// In the file: `idle_timeout`.
    pub key: String,
    /// As an option: `--idle-timeout`.
    pub flag: String,
    /// In the environment: `JS5D_IDLE_TIMEOUT`.
    pub variable: String,
    /// What it means, in a sentence.
    pub help: String,
    /// What holds where there is no default value.
    pub unset: Option<String>,
    /// The heading it stands under, if it stands under one.
    pub heading: Option<String>,
    /// What its value is called: `TIME`.
    pub value_name: String,
    /// The values there are, with their meaning, where they can be counted.
    pub choices: Vec<(String, String)>,
    /// The default; none if it is not set by default.
    pub defaults: Vec<String>,
    /// How many values it has.
    pub kind: Kind,
    parser: ValueParser,
}

/// Every setting, in the order of the help.
pub fn all() -> Vec<Setting> {
    let options = ServeArgs::augment_args(Command::new("serve"));
    options.get_arguments().filter_map(Setting::of).collect()
}

impl Setting {
    fn of(arg: &Arg) -> Option<Self> {
        let long = arg.get_long()?;
        // What is hidden is for the program itself.
        if long == super::FILE_OPTION || arg.is_hide_set() {
            return None;
        }
        let key = long.replace('-', "_");
        let kind = match arg.get_action() {
            ArgAction::SetTrue => Kind::Switch,
            ArgAction::Append => Kind::Many,
            _ => Kind::One,
        };
        let help = arg.get_help().map_or_else(String::new, ToString::to_string);
        let (help, unset) = match help.split_once(" [default: ") {
            Some((help, unset)) => (help.to_owned(), Some(unset.trim_end_matches(']').to_owned())),
            None => (help, None),
        };
        let choice = |value: &clap::builder::PossibleValue| {
            let meaning = value.get_help().map_or_else(String::new, ToString::to_string);
            (value.get_name().to_owned(), meaning)
        };
        let value_name = arg.get_value_names().and_then(|names| names.first());
        let given = arg.get_default_values().iter();
        let (defaults, parser) = match kind {
            Kind::Switch => (vec!["false".into()], BoolishValueParser::new().into()),
            Kind::One | Kind::Many => (
                given.map(|value| value.to_string_lossy().into_owned()).collect(),
                arg.get_value_parser().clone(),
            ),
        };
        Some(Self {
            id: arg.get_id().to_string(),
            flag: format!("--{long}"),
            variable: format!("JS5D_{}", key.to_uppercase()),
            key,
            help,
            unset,
            heading: arg.get_help_heading().map(str::to_owned),
            value_name: value_name.map_or_else(|| "VALUE".to_owned(), ToString::to_string),
            choices: arg.get_possible_values().iter().map(choice).collect(),
            defaults,
            kind,
            parser,
        })
    }

    /// Reads a value, and checks it.
    pub fn parser(&self) -> ValueParser {
        self.parser.clone()
    }

    /// What is wrong with a value, if something is.
    pub(super) fn objection(&self, value: &OsStr) -> Option<String> {
        let arg = Arg::new("value").value_parser(self.parser());
        let alone = Command::new("value").no_binary_name(true).arg(arg);
        let error = alone.try_get_matches_from([OsStr::new("--"), value]).err()?;
        if value.is_empty() {
            return Some(format!("it is empty; {} is wanted", self.wanted()));
        }
        if error.kind() == ErrorKind::InvalidValue || self.kind == Kind::Switch {
            let near = match error.get(ContextKind::SuggestedValue) {
                Some(ContextValue::String(near)) => format!("; did you mean '{near}'?"),
                _ => String::new(),
            };
            return Some(format!("{} is wanted{near}", self.wanted()));
        }
        // The parser's own words, without those that clap puts around them.
        Some(error.source().map_or_else(|| "it is not UTF-8".to_owned(), ToString::to_string))
    }

    /// Whether nothing is wrong for it, as for a path.
    pub(super) fn takes_any_text(&self) -> bool {
        self.objection("any text".as_ref()).is_none()
    }

    /// What can stand as its value, in words.
    pub(super) fn wanted(&self) -> String {
        let names: Vec<_> = self.choices.iter().map(|(name, _)| name.as_str()).collect();
        match (self.kind, names.split_last()) {
            (Kind::Switch, _) => "true or false".to_owned(),
            (_, None) => self.value_name.clone(),
            (_, Some((last, []))) => (*last).to_owned(),
            (_, Some((last, others))) => format!("{} or {last}", others.join(", ")),
        }
    }

    /// A value as it is printed: a switch may have been written as `1` or `yes`.
    pub(super) fn plain(&self, value: &str) -> String {
        match (self.kind, value.to_lowercase().as_str()) {
            (Kind::Switch, "y" | "yes" | "t" | "true" | "on" | "1") => "true".into(),
            (Kind::Switch, _) => "false".into(),
            _ => value.to_owned(),
        }
    }

    /// What holds by default, in words.
    pub(super) fn default_text(&self) -> String {
        match (&self.unset, &self.defaults[..]) {
            (Some(unset), []) => unset.clone(),
            (None, []) => "not set".to_owned(),
            (_, defaults) => defaults.join(", "),
        }
    }
}
