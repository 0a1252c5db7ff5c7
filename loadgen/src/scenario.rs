//! The nine scenarios: what each kind of client does, as data.

use crate::cli::{LoadOptions, Scenario, Trick};
use crate::engine::plan::{Kind, Rhythm, Then, Tricks, Work};
use clap::ValueEnum;
use std::time::Duration;

/// What the real client keeps in flight.
const WINDOW: u32 = 20;

/// The kinds of clients that the options name, with their weights.
///
/// # Errors
/// A mix that cannot be read, in words.
pub(crate) fn kinds(options: &LoadOptions) -> Result<Vec<Kind>, String> {
    let Some(mix) = &options.mix else {
        return Ok(vec![kind(options.scenario.unwrap_or(Scenario::Download), 1, options)]);
    };
    let mut kinds = Vec::new();
    for part in mix.split(',') {
        let (name, weight) = part.trim().split_once('=').unwrap_or((part.trim(), "1"));
        let scenario = Scenario::from_str(name, true)
            .map_err(|_| format!("--mix: there is no scenario {name:?}"))?;
        if scenario == Scenario::Priority {
            return Err("--mix: priority is a comparison, not a kind of client".to_owned());
        }
        let weight: u32 = match weight.parse() {
            Ok(weight @ 1..=10_000) => weight,
            _ => return Err(format!("--mix: {weight:?} is no weight from 1 to 10000")),
        };
        kinds.push(kind(scenario, weight, options));
    }
    Ok(kinds)
}

/// The name under which results list the scenario.
pub(crate) fn name(options: &LoadOptions) -> String {
    if let Some(mix) = &options.mix {
        return mix.clone();
    }
    let scenario = options.scenario.unwrap_or(Scenario::Download);
    scenario.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

fn kind(scenario: Scenario, weight: u32, options: &LoadOptions) -> Kind {
    let base = Kind {
        scenario,
        weight,
        urgent: options.urgent.unwrap_or(WINDOW),
        prefetch: options.prefetch.unwrap_or(WINDOW),
        work: Work::Everything,
        visit_requests: None,
        rhythm: Rhythm::Eager,
        then: Then::Repeat,
        read_rate: None,
        paced_visits: false,
        is_download: false,
    };
    match scenario {
        Scenario::Download => Kind { is_download: true, ..base },
        Scenario::Slow => {
            let rate = options.read_rate.map_or(7000, |rate| rate.0 as u64).max(1);
            Kind { is_download: true, read_rate: Some(rate), ..base }
        }
        Scenario::Play => Kind { work: Work::Popular, rhythm: thinking(options), ..base },
        Scenario::LoginStorm => Kind {
            work: Work::MasterIndex,
            then: Then::Reconnect,
            paced_visits: true,
            is_download: true,
            ..base
        },
        Scenario::UpdateDay => Kind {
            work: Work::Changed(options.changed.unwrap_or(0.05).clamp(0.0, 1.0)),
            then: Then::Stay,
            is_download: true,
            ..base
        },
        Scenario::Idle => {
            let every = options.keepalive.map_or(Duration::from_secs(25), |span| span.0);
            Kind { work: Work::KeepAlive(every.as_nanos() as u64), ..base }
        }
        Scenario::Churn => Kind {
            work: Work::Popular,
            visit_requests: Some(options.churn_requests.unwrap_or(10).max(1)),
            then: Then::Reconnect,
            ..base
        },
        // One urgent request at a time, so that it waits for nothing but the prefetch.
        Scenario::Priority => {
            Kind { work: Work::Popular, urgent: options.urgent.unwrap_or(1), ..base }
        }
        Scenario::Hostile => Kind { work: Work::Hostile(tricks(options)), ..base },
    }
}

fn thinking(options: &LoadOptions) -> Rhythm {
    let ns = |span: Option<crate::human::Span>, default_ms: u64| {
        span.map_or(default_ms * 1_000_000, crate::human::Span::ns)
    };
    Rhythm::Thinking {
        think_ns: ns(options.think, 2000),
        burst: options.burst.unwrap_or(8),
        prefetch_gap_ns: ns(options.prefetch_gap, 100),
    }
}

fn tricks(options: &LoadOptions) -> Tricks {
    let all = || Trick::value_variants().to_vec();
    let hold_ns = options.hold.map_or(5_000_000_000, crate::human::Span::ns);
    Tricks { tricks: options.tricks.clone().unwrap_or_else(all), hold_ns }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mix_is_read_by_weight() {
        let options = LoadOptions { mix: Some("play=8, churn=2".to_owned()), ..<_>::default() };
        let kinds = kinds(&options).unwrap();
        let found: Vec<_> = kinds.iter().map(|kind| (kind.scenario, kind.weight)).collect();
        assert_eq!(found, [(Scenario::Play, 8), (Scenario::Churn, 2)]);
        for wrong in ["dance=1", "play=0", "play=x", "priority=1"] {
            let options = LoadOptions { mix: Some(wrong.to_owned()), ..<_>::default() };
            assert!(super::kinds(&options).is_err(), "{wrong}");
        }
    }
}
