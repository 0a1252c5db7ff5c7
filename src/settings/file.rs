//! The settings file: TOML, a key a setting; tables for profiles only.
//!
//! The document is walked with the place of each key and value, so that whatever is wrong is
//! named with file, line and column. All that is wrong is reported at once.

use super::{Kind, Layer, Layers, Origin, Problem, Setting, suggestion};
use crate::cli::{LIKE, PROFILE_KEY};
use crate::failure::{Exit, Failure};
use std::ffi::OsString;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::ops::Range;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

/// A settings file is not larger: the example with every setting has some 4 KB.
const FILE_LEN_MAX: u64 = 1 << 20;

/// What the file says, and what is wrong with it.
///
/// # Errors
/// It cannot be read at all.
pub(super) fn read(path: &Path, settings: &[Setting]) -> Result<(Layers, Vec<Problem>), Failure> {
    Ok(of_text(path, &load(path)?, settings))
}

/// What a file with this text says, and what is wrong with it.
pub(super) fn of_text(path: &Path, text: &str, settings: &[Setting]) -> (Layers, Vec<Problem>) {
    let mut reader = Reader { path, text, settings, problems: Vec::new() };
    let layers = reader.document();
    (layers, reader.problems)
}

fn load(path: &Path) -> Result<String, Failure> {
    let shown = path.display();
    let mut bytes = Vec::new();
    let read = File::open(path)
        .and_then(|file| file.take(FILE_LEN_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| {
            let (exit, remedy) = match error.kind() {
                ErrorKind::PermissionDenied => {
                    (Exit::Permission, "let the server's user read the file")
                }
                _ => (Exit::Config, "name a settings file with --config or JS5D_CONFIG, or none"),
            };
            Failure::new(exit, format!("the settings file {shown} cannot be read: {error}"), remedy)
        })?;
    if read as u64 > FILE_LEN_MAX {
        let cause = format!("{shown} is no settings file: it is larger than 1 MiB");
        return Err(Failure::new(Exit::Config, cause, "name another file"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let line = 1 + error.as_bytes()[..error.utf8_error().valid_up_to()]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
        let cause = format!("{shown}:{line}: not UTF-8");
        Failure::new(Exit::Config, cause, "store the settings file as UTF-8")
    })
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    settings: &'a [Setting],
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn document(&mut self) -> Layers {
        let mut layers = Layers::new();
        let document = match DeTable::parse(self.text) {
            Ok(document) => document.into_inner(),
            Err(error) => {
                let what = error.message().replace('\n', ", ");
                self.problem(&error.span().unwrap_or(0..0), what);
                return layers;
            }
        };
        let mut entries: Vec<_> = document.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in entries {
            let name: &str = key.get_ref();
            let settings = self.settings;
            match settings.iter().find(|setting| setting.key == name) {
                Some(setting) if is_table_of_profiles(setting, value.get_ref()) => {
                    let (line, _) = place(self.text, key.span().start);
                    let origin = Origin::File(self.path.to_owned(), line);
                    let values = self.profiles(setting, value);
                    layers.insert(setting.key.clone(), Layer { values, origin });
                }
                Some(setting) => {
                    if let Some(values) = self.values(setting, value) {
                        let (line, _) = place(self.text, key.span().start);
                        let origin = Origin::File(self.path.to_owned(), line);
                        layers.insert(setting.key.clone(), Layer { values, origin });
                    }
                }
                None => {
                    let what = self.unknown(name, value.get_ref());
                    self.problem(&key.span(), what);
                }
            }
        }
        layers
    }

    fn unknown(&self, name: &str, value: &DeValue<'_>) -> String {
        let keys = || self.settings.iter().map(|setting| setting.key.as_str());
        if name == super::FILE_OPTION {
            return "a settings file cannot name another".to_owned();
        }
        let DeValue::Table(table) = value else {
            return format!("'{name}' is no setting{}", suggestion(name, keys()));
        };
        // [log] with level in it, or [limits] with idle_timeout: what was meant is one key.
        let meant = table.keys().next().map(|inner| {
            let inner: &str = inner.get_ref();
            let joined = format!("{name}_{inner}");
            let is_known = keys().any(|key| key == joined);
            suggestion(if is_known { &joined } else { inner }, keys())
        });
        let meant = meant.unwrap_or_default();
        format!("'{name}' is a table, but settings are written without tables{meant}")
    }

    /// `[profile.NAME]` tables, as the option would have them: a value a field. What is wrong is
    /// left out.
    fn profiles(&mut self, setting: &Setting, value: &Spanned<DeValue<'_>>) -> Vec<OsString> {
        let mut values = Vec::new();
        for (name, fields) in sorted(value.get_ref()) {
            let name_text: &str = name.get_ref();
            let DeValue::Table(_) = fields.get_ref() else {
                let what = format!("[profile.{name_text}] with its fields in it is wanted");
                self.problem(&name.span(), what);
                continue;
            };
            let mut fields = sorted(fields.get_ref());
            // What a profile is like comes before what differs.
            fields.sort_by_key(|(field, _)| field.get_ref() != LIKE);
            for (field, value) in fields {
                let field_text: &str = field.get_ref();
                let Some(text) = field_value(value.get_ref()) else {
                    let what =
                        format!("{field_text} takes a string, a number, a boolean or a list");
                    self.problem(&value.span(), what);
                    continue;
                };
                let text = format!("{name_text}.{field_text}={text}");
                match setting.objection(text.as_ref()) {
                    Some(objection) => self.problem(&field.span(), objection),
                    None => values.push(text.into()),
                }
            }
        }
        values
    }

    /// The values as an option would have them; none if one is wrong.
    fn values(&mut self, setting: &Setting, value: &Spanned<DeValue<'_>>) -> Option<Vec<OsString>> {
        let DeValue::Array(list) = value.get_ref() else {
            return self.value(setting, value).map(|value| vec![value]);
        };
        if setting.kind != Kind::Many {
            let what = format!("{} takes {}, not a list", setting.key, setting.wanted());
            self.problem(&value.span(), what);
            return None;
        }
        if list.is_empty() && !setting.defaults.is_empty() {
            let what = format!("{} needs at least one {}", setting.key, setting.wanted());
            self.problem(&value.span(), what);
            return None;
        }
        // Each is looked at, even if one before it is wrong.
        let values: Vec<_> = list.iter().map(|value| self.value(setting, value)).collect();
        values.into_iter().collect()
    }

    fn value(&mut self, setting: &Setting, value: &Spanned<DeValue<'_>>) -> Option<OsString> {
        let Some(text) = text_of(setting, value.get_ref()) else {
            let found = match value.get_ref() {
                DeValue::String(_) => "a string",
                DeValue::Integer(_) => "an integer",
                DeValue::Float(_) => "a fraction",
                DeValue::Boolean(_) => "a boolean",
                DeValue::Datetime(_) => "a date",
                DeValue::Array(_) => "a list",
                DeValue::Table(_) => "a table",
            };
            let what = format!("{} takes {}, not {found}", setting.key, setting.wanted());
            self.problem(&value.span(), what);
            return None;
        };
        if let Some(objection) = setting.objection(text.as_ref()) {
            let written = self.text.get(value.span()).unwrap_or(&text);
            self.problem(&value.span(), format!("{} = {written}: {objection}", setting.key));
            return None;
        }
        Some(text.into())
    }

    fn problem(&mut self, span: &Range<usize>, what: String) {
        let (line, column) = place(self.text, span.start);
        let place = format!("{}:{line}:{column}", self.path.display());
        self.problems.push(Problem { place, what });
    }
}

/// Whether it is `[profile.NAME]`, and not `profile = ["NAME.FIELD=VALUE"]`.
fn is_table_of_profiles(setting: &Setting, value: &DeValue<'_>) -> bool {
    setting.key == PROFILE_KEY && matches!(value, DeValue::Table(_))
}

type Entry<'a, 'b> = (&'a Spanned<DeString<'b>>, &'a Spanned<DeValue<'b>>);

/// A table's entries as they stand in the file.
fn sorted<'a, 'b>(value: &'a DeValue<'b>) -> Vec<Entry<'a, 'b>> {
    let DeValue::Table(table) = value else { return Vec::new() };
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

/// What a field of a profile is set to: a list as its elements with commas.
fn field_value(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => {
            i128::from_str_radix(number.as_str(), number.radix()).ok().map(|it| it.to_string())
        }
        DeValue::Boolean(value) => Some(value.to_string()),
        DeValue::Array(list) => {
            let each = list.iter().map(|value| field_value(value.get_ref()));
            let all = each.collect::<Option<Vec<_>>>()?;
            // A list of one is a list still.
            Some(if let [one] = &all[..] { format!("{one},") } else { all.join(",") })
        }
        _ => None,
    }
}

/// A value as an option would have it; none if its type does not fit.
fn text_of(setting: &Setting, value: &DeValue<'_>) -> Option<String> {
    let has = |name: &str| setting.choices.iter().any(|(choice, _)| choice == name);
    match (setting.kind, value) {
        (Kind::Switch, DeValue::Boolean(value)) => Some(value.to_string()),
        (Kind::Switch, _) => None,
        (_, DeValue::String(text)) => Some(text.to_string()),
        // 0x226 and 50_000 are numbers, too; one beyond 64 bits is left to the option's parser.
        (_, DeValue::Integer(number)) => {
            let digits = number.as_str();
            let value = i128::from_str_radix(digits, number.radix());
            Some(value.map_or_else(|_| digits.to_owned(), |value| value.to_string()))
        }
        (_, DeValue::Float(number)) => Some(number.as_str().to_owned()),
        (_, DeValue::Boolean(true)) if has("on") && has("off") => Some("on".to_owned()),
        (_, DeValue::Boolean(false)) if has("on") && has("off") => Some("off".to_owned()),
        _ => None,
    }
}

/// Line and column of a byte, both counted from 1, columns in characters.
fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}
