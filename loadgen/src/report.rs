//! A result as people and programs read it. Nothing here measures or judges.

mod charts;
pub(crate) mod hlog;
pub(crate) mod html;
pub(crate) mod json;
pub(crate) mod live;
mod scale;
mod svg;
pub(crate) mod table;

#[cfg(test)]
pub(crate) mod sample;
