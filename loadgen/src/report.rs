//! A result as people and programs read it. Nothing here measures or judges.

mod charts;
pub(crate) mod hlog;
pub(crate) mod html;
pub(crate) mod json;
pub(crate) mod live;
mod scale;
mod svg;
pub(crate) mod table;
pub(crate) mod units;

#[cfg(test)]
mod sample;

use crate::result::Step;

/// The step of `find-max` with the highest rate that holds.
pub(crate) fn highest_step(steps: &[Step]) -> Option<&Step> {
    let holding = steps.iter().filter(|step| step.holds);
    holding.max_by(|a, b| a.offered_per_s.total_cmp(&b.offered_per_s))
}
