//! A result as people and programs read it. Nothing here measures or judges.

pub(crate) mod units;
