//! HdrHistogram's own files: the interval log with a tag for each metric, and the percentile
//! spectrum. Tools for them exist; both hold nanoseconds and show milliseconds.

use crate::result::RunResult;
use crate::stats::{Metric, Times};
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{
    IntervalLogWriterBuilder, IntervalLogWriterError, Tag,
};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

const NS_PER_MS: f64 = 1e6;

/// Steps to each halving of the distance to 100 %, as HdrHistogram's own tools have it.
const TICKS_PER_HALF: u32 = 5;

/// Writes the log: one line an interval and metric.
pub(crate) fn write_hlog(result: &RunResult, to: &mut impl Write) -> io::Result<()> {
    let mut serializer = V2DeflateSerializer::new();
    let start = UNIX_EPOCH + Duration::from_millis(result.started_unix_ms);
    let mut builder = IntervalLogWriterBuilder::new();
    builder
        .add_comment("[Histogram log format version 1.3]")
        .add_comment(&format!("js5-loadgen {} {}", result.load.scenario, result.load.target))
        .with_start_time(start)
        .with_base_time(start)
        .with_max_value_divisor(NS_PER_MS);
    let mut log = builder.begin_log_with(to, &mut serializer)?;
    for interval in &result.stats.intervals {
        let begin = Duration::from_millis(interval.start_ms);
        let length = Duration::from_millis(interval.length_ms);
        for (metric, packed) in &interval.times {
            let times = packed.unpack();
            let written =
                log.write_histogram(times.inner(), begin, length, Tag::new(metric.name()));
            written.map_err(|error| match error {
                IntervalLogWriterError::IoError(error) => error,
                IntervalLogWriterError::SerializeError(error) => {
                    io::Error::other(error.to_string())
                }
            })?;
        }
    }
    Ok(())
}

/// Where the spectrum of a metric goes: `PREFIX-urgent.response.hgrm`.
pub(crate) fn hgrm_path(prefix: &Path, metric: Metric) -> PathBuf {
    let mut name = prefix.as_os_str().to_owned();
    name.push(format!("-{}.hgrm", metric.name()));
    name.into()
}

/// Writes the spectrum of a metric, in milliseconds, as HdrHistogram's plotters read it.
pub(crate) fn write_hgrm(times: &Times, to: &mut impl Write) -> io::Result<()> {
    let histogram = times.inner();
    writeln!(
        to,
        "{:>12} {:>14} {:>10} {:>14}\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    )?;
    let mut total = 0;
    for step in histogram.iter_quantiles(TICKS_PER_HALF) {
        total += step.count_since_last_iteration();
        let (value, quantile) = (step.value_iterated_to() as f64 / NS_PER_MS, step.quantile());
        if quantile < 1.0 {
            let nines = 1.0 / (1.0 - quantile);
            writeln!(to, "{value:12.3} {quantile:14.12} {total:10} {nines:14.2}")?;
        } else {
            writeln!(to, "{value:12.3} {quantile:14.12} {total:10}")?;
        }
    }
    let (mean, deviation) = (histogram.mean() / NS_PER_MS, histogram.stdev() / NS_PER_MS);
    let (max, count) = (histogram.max() as f64 / NS_PER_MS, histogram.len());
    writeln!(to, "#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]")?;
    writeln!(to, "#[Max     = {max:12.3}, Total count    = {count:12}]")?;
    let buckets = histogram.buckets();
    writeln!(to, "#[Buckets = {buckets:12}, SubBuckets     = {:12}]", 2048)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;
    use base64::Engine as _;
    use hdrhistogram::Histogram;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    #[test]
    fn the_log_is_read_back_by_hdrhistograms_own_reader_and_sums_up_to_the_totals() {
        let result = sample::result();
        let mut log = Vec::new();
        write_hlog(&result, &mut log).unwrap();
        let mut sum = Times::new().inner().clone();
        let mut starts = Vec::new();
        for entry in IntervalLogIterator::new(&log) {
            let LogEntry::Interval(interval) = entry.unwrap() else { continue };
            if interval.tag() != Tag::new("urgent.response") {
                continue;
            }
            starts.push(interval.start_timestamp().as_secs());
            let engine = base64::engine::general_purpose::STANDARD;
            let bytes = engine.decode(interval.encoded_histogram()).unwrap();
            let read: Histogram<u64> = Deserializer::new().deserialize(&mut &bytes[..]).unwrap();
            sum += read;
        }
        let intervals = result.stats.intervals.len() as u64;
        assert_eq!(starts, (0..intervals).collect::<Vec<_>>());
        assert!(sum == *result.stats.times(Metric::UrgentResponse).unwrap().inner());
    }

    #[test]
    fn the_spectrum_ends_with_the_maximum_and_all_samples() {
        let mut times = Times::new();
        (1..=1000_u64).for_each(|ms| times.record(ms * 1_000_000));
        let mut text = Vec::new();
        write_hgrm(&times, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let rows: Vec<Vec<f64>> = text
            .lines()
            .skip(2)
            .take_while(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().map(|field| field.parse().unwrap()).collect())
            .collect();
        assert!(rows.windows(2).all(|pair| pair[0][0] <= pair[1][0] && pair[0][1] <= pair[1][1]));
        let (median, last) = (rows.iter().find(|row| row[1] >= 0.5).unwrap(), rows.last().unwrap());
        assert!((499.0..502.0).contains(&median[0]), "{median:?}");
        assert!((999.0..1001.0).contains(&last[0]) && last[1] == 1.0 && last[2] == 1000.0);
        assert!(text.contains("Total count    =         1000]"), "{text}");
    }
}
