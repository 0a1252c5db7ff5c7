//! Settings as text: the values that hold, the example file, the table of the documentation.

use super::{Kind, Origin, Resolved, Setting, all};
use serde_json::{Value, json};
use std::fmt::Write;

/// Columns of the example file.
const COLUMNS: usize = 92;

/// Key, value and origin of each setting, in columns.
pub fn table(settings: &[Resolved]) -> String {
    let values: Vec<_> = settings.iter().map(shown).collect();
    let width = |texts: &mut dyn Iterator<Item = &str>| {
        texts.map(|text| text.chars().count()).max().unwrap_or(0)
    };
    let key_width = width(&mut settings.iter().map(|resolved| resolved.setting.key.as_str()));
    let value_width = width(&mut values.iter().map(String::as_str));
    let line = |(Resolved { setting, origin, .. }, value): (&Resolved, &String)| {
        format!("{:key_width$}  {value:value_width$}  {origin}\n", setting.key)
    };
    settings.iter().zip(&values).map(line).collect()
}

/// A value for people.
fn shown(resolved: &Resolved) -> String {
    match &resolved.values[..] {
        [] => format!("({})", resolved.setting.default_text()),
        values => values.join(", "),
    }
}

/// The same as JSON: an object with a member a setting.
pub fn json(settings: &[Resolved]) -> Value {
    let member = |resolved: &Resolved| {
        let setting = &resolved.setting;
        let origin = match &resolved.origin {
            Origin::Default => json!({ "kind": "default" }),
            Origin::File(path, line) => json!({ "kind": "file", "file": path, "line": line }),
            Origin::Variable(name) => json!({ "kind": "variable", "variable": name }),
            Origin::Flag(flag) => json!({ "kind": "flag", "flag": flag }),
        };
        let value = match (setting.kind, &resolved.values[..]) {
            (Kind::Many, values) => values.iter().map(|value| typed(setting, value)).collect(),
            (_, []) => Value::Null,
            (_, [value, ..]) => typed(setting, value),
        };
        (setting.key.clone(), json!({ "value": value, "origin": origin }))
    };
    Value::Object(settings.iter().map(member).collect())
}

fn typed(setting: &Setting, value: &str) -> Value {
    match (setting.kind, number(setting, value)) {
        (Kind::Switch, _) => json!(value == "true"),
        (_, Some(number)) => json!(number),
        (_, None) => json!(value),
    }
}

/// A value as a number, if it is one, and not a path or other text that looks like one.
fn number(setting: &Setting, value: &str) -> Option<i64> {
    let number: i64 = value.parse().ok()?;
    (number.to_string() == value && !setting.takes_any_text()).then_some(number)
}

/// A settings file with every setting in a comment, as it is by default.
pub fn example() -> String {
    let mut text = wrapped(
        "Settings of js5d, each with its default. Remove the # in front of a key to set it. \
         The file is used where it is named: js5d --config FILE, or JS5D_CONFIG=FILE. A JS5D_* \
         variable beats it, and an option beats both; 'js5d config --config FILE' shows each \
         value and where it comes from.",
    );
    let mut heading = None;
    for setting in all() {
        if setting.heading != heading
            && let Some(name) = &setting.heading
        {
            let line = "-".repeat(name.chars().count());
            // A string takes it all.
            let _ = write!(text, "\n\n# {name}\n# {line}\n");
        }
        heading.clone_from(&setting.heading);
        text.push('\n');
        text.push_str(&wrapped(&format!("{}.", sentence(&setting, ""))));
        if setting.defaults.is_empty() {
            text.push_str(&wrapped(&format!("Not set by default: {}.", setting.default_text())));
        }
        let _ = writeln!(text, "#{} = {}", setting.key, example_value(&setting));
    }
    text
}

/// A value that is right: the default, or one that only shows the form.
fn example_value(setting: &Setting) -> String {
    let written = |text: &str| {
        let is_bare = setting.kind == Kind::Switch || number(setting, text).is_some();
        if is_bare { text.to_owned() } else { toml::Value::from(text).to_string() }
    };
    let forms = [
        "4",
        "1000",
        "1GB",
        "1MB/s",
        "30s",
        "127.0.0.1:9550",
        "10.0.0.0/8",
        "9f3c51e07a2b6d44",
        "rs2-718.ints=0",
        "742=TOKEN",
    ];
    let right = forms.iter().find(|form| setting.objection(form.as_ref()).is_none());
    match &setting.defaults[..] {
        // Text of any kind is right for a path, so a number would be no help.
        [] if setting.takes_any_text() => listed(setting, &written(&setting.value_name)),
        [] => listed(setting, &written(right.unwrap_or(&setting.value_name.as_str()))),
        defaults => {
            let values: Vec<_> = defaults.iter().map(|value| written(value)).collect();
            listed(setting, &values.join(", "))
        }
    }
}

fn listed(setting: &Setting, values: &str) -> String {
    if setting.kind == Kind::Many { format!("[{values}]") } else { values.to_owned() }
}

/// The settings as a table for docs/settings.md.
pub fn markdown() -> String {
    let mut text = String::from(
        "| option | key in the file | variable | default | meaning |\n|---|---|---|---|---|\n",
    );
    let mut heading = None;
    for setting in all() {
        if setting.heading != heading
            && let Some(name) = &setting.heading
        {
            let _ = writeln!(text, "| **{name}** | | | | |");
        }
        heading.clone_from(&setting.heading);
        let value = match setting.kind {
            Kind::Switch => "[=true\\|false]".to_owned(),
            Kind::One | Kind::Many => {
                format!(" {}", setting.value_name.replace('|', "\\|"))
            }
        };
        let default = match &setting.defaults[..] {
            [] => setting.default_text(),
            defaults => format!("`{}`", defaults.join(",")),
        };
        let Setting { flag, key, variable, .. } = &setting;
        let meaning = sentence(&setting, "`").replace('|', "\\|");
        let _ =
            writeln!(text, "| `{flag}{value}` | `{key}` | `{variable}` | {default} | {meaning} |",);
    }
    text
}

/// The help, with the choices and their meaning.
fn sentence(setting: &Setting, quote: &str) -> String {
    let meant = setting.choices.iter().filter(|(_, meaning)| !meaning.is_empty());
    let choices: Vec<_> = meant
        .map(|(name, meaning)| {
            let mut letters = meaning.chars();
            let first = letters.next().map(|c| c.to_lowercase().to_string()).unwrap_or_default();
            format!("{quote}{name}{quote}: {first}{}", letters.as_str())
        })
        .collect();
    if choices.is_empty() {
        return setting.help.clone();
    }
    format!("{} ({})", setting.help, choices.join("; "))
}

/// Comment lines of at most [`COLUMNS`].
fn wrapped(text: &str) -> String {
    let mut lines = String::new();
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > COLUMNS {
            lines.push_str(&line);
            lines.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    lines + &line + "\n"
}
