//! The result as JSON, as docs/benchmarks.md documents it. `merge` reads it again.

use crate::judgement::Judged;
use std::io::{self, Write};

/// Writes it, indented: results are kept in repositories and read by people too.
pub(crate) fn write(judged: &Judged, to: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *to, judged)?;
    writeln!(to)
}
