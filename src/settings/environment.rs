//! `JS5D_*` variables.
//!
//! A variable with this prefix that is no setting is an error: if a misspelt limit were ignored,
//! nobody would notice before it is needed. Variables that Kubernetes sets (docs/decisions/0007)
//! are ignored.

use super::{FILE_VARIABLE, Kind, Layer, Layers, Origin, Problem, Setting, suggestion};
use std::ffi::OsString;
use std::path::PathBuf;

const PREFIX: &str = "JS5D_";

/// What the environment says.
pub(super) struct Environment {
    pub(super) layers: Layers,
    /// The settings file.
    pub(super) file: Option<PathBuf>,
    pub(super) problems: Vec<Problem>,
}

/// Takes the settings out of the environment.
pub(super) fn read(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    settings: &[Setting],
) -> Environment {
    let mut said = Environment { layers: Layers::new(), file: None, problems: Vec::new() };
    let ours = |(name, value): (OsString, OsString)| {
        let name = name.to_string_lossy().into_owned();
        (name.starts_with(PREFIX) && !is_of_kubernetes(&name)).then_some((name, value))
    };
    let mut variables: Vec<_> = variables.into_iter().filter_map(ours).collect();
    variables.sort();
    for (name, value) in variables {
        if name == FILE_VARIABLE {
            if value.is_empty() {
                let what = "it is empty; name a file, or unset the variable".to_owned();
                said.problems.push(Problem { place: name, what });
            } else {
                said.file = Some(value.into());
            }
            continue;
        }
        let Some(setting) = settings.iter().find(|setting| setting.variable == name) else {
            let known = settings.iter().map(|setting| setting.variable.as_str());
            let near = suggestion(&name, known.chain([FILE_VARIABLE]));
            let what = format!("it is no setting{near}");
            said.problems.push(Problem { place: name, what });
            continue;
        };
        let values = match (setting.kind, value.to_str()) {
            (Kind::Many, Some(list)) => list.split(',').map(|one| one.trim().into()).collect(),
            _ => vec![value],
        };
        let objection = |value: &OsString| {
            let what = setting.objection(value)?;
            if value.is_empty() {
                let what = what + ", or unset the variable";
                return Some(Problem { place: name.clone(), what });
            }
            let place = format!("{name}={}", value.to_string_lossy());
            Some(Problem { place, what })
        };
        let problems: Vec<_> = values.iter().filter_map(objection).collect();
        if problems.is_empty() {
            let origin = Origin::Variable(name);
            said.layers.insert(setting.key.clone(), Layer { values, origin });
        }
        said.problems.extend(problems);
    }
    said
}

/// What Kubernetes tells each container about a Service with the name `js5d`.
fn is_of_kubernetes(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(PREFIX) else { return false };
    let of_port = rest.strip_prefix("PORT_").and_then(|rest| rest.split('_').next());
    rest == "PORT"
        || rest == "SERVICE_HOST"
        || rest == "SERVICE_PORT"
        || rest.starts_with("SERVICE_PORT_")
        || of_port.is_some_and(|port| port.parse::<u16>().is_ok())
}
