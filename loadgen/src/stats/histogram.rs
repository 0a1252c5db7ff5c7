//! Histograms: one shape for all, so that any two add.
//!
//! From 1 µs to 60 s with three digits, in nanoseconds. Times beyond 60 s are recorded as 60 s
//! and counted. In files a histogram is HdrHistogram's V2 form, deflated, in base64: the same
//! text as in an hlog, and readable by the tools for that.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{
    Deserializer as HdrReader, Serializer as HdrWriter, V2DeflateSerializer, V2Serializer,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

/// The finest step that is told apart: 1 µs.
const LOW_NS: u64 = 1000;
/// The longest time: 60 s.
pub(crate) const HIGH_NS: u64 = 60_000_000_000;
const DIGITS: u8 = 3;

/// p99.9 of fewer samples than this is a guess, and is not printed.
pub(crate) const P999_SAMPLES_MIN: u64 = 10_000;

/// Times in nanoseconds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Times {
    histogram: Histogram<u64>,
    /// How many were longer than 60 s.
    clamped: u64,
}

impl Times {
    /// None recorded.
    pub(crate) fn new() -> Self {
        let histogram = Histogram::new_with_bounds(LOW_NS, HIGH_NS, DIGITS);
        Self { histogram: histogram.expect("the bounds are constants that fit"), clamped: 0 }
    }

    /// Records a time.
    #[inline]
    pub(crate) fn record(&mut self, ns: u64) {
        self.clamped += u64::from(ns > HIGH_NS);
        self.histogram.saturating_record(ns);
    }

    /// Records a time that as many have.
    pub(crate) fn record_many(&mut self, ns: u64, count: u64) {
        self.clamped += if ns > HIGH_NS { count } else { 0 };
        self.histogram.saturating_record_n(ns, count);
    }

    /// How many are recorded.
    pub(crate) fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// How many of them were longer than 60 s.
    pub(crate) fn clamped(&self) -> u64 {
        self.clamped
    }

    /// Nothing recorded.
    pub(crate) fn is_empty(&self) -> bool {
        self.histogram.is_empty()
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.histogram.reset();
        self.clamped = 0;
    }

    /// Adds another's.
    pub(crate) fn add(&mut self, other: &Self) {
        // Both have the same bounds, or what a file brought and `unpack` accepted.
        self.histogram.add(&other.histogram).expect("all histograms have one shape");
        self.clamped += other.clamped;
    }

    /// The time that the part `quantile` of all does not exceed; 0 if there is none.
    pub(crate) fn quantile(&self, quantile: f64) -> u64 {
        self.histogram.value_at_quantile(quantile)
    }

    /// The longest.
    pub(crate) fn max(&self) -> u64 {
        self.histogram.max()
    }

    /// The shortest.
    pub(crate) fn min(&self) -> u64 {
        if self.is_empty() { 0 } else { self.histogram.min() }
    }

    /// Their mean.
    pub(crate) fn mean(&self) -> f64 {
        self.histogram.mean()
    }

    /// The p99.9, if there are samples enough to know it.
    pub(crate) fn p999(&self) -> Option<u64> {
        (self.count() >= P999_SAMPLES_MIN).then(|| self.quantile(0.999))
    }

    /// For iterators and writers of HdrHistogram's formats.
    pub(crate) fn inner(&self) -> &Histogram<u64> {
        &self.histogram
    }

    /// In few bytes, quickly.
    pub(crate) fn pack(&self) -> Packed {
        let mut bytes = Vec::new();
        let written = V2Serializer::new().serialize(&self.histogram, &mut bytes);
        written.expect("memory takes all bytes");
        Packed { bytes, clamped: self.clamped }
    }

    fn to_base64(&self) -> Result<String, String> {
        let mut bytes = Vec::new();
        let written = V2DeflateSerializer::new().serialize(&self.histogram, &mut bytes);
        written.map_err(|error| error.to_string())?;
        Ok(BASE64.encode(bytes))
    }

    fn from_base64(text: &str, clamped: u64) -> Result<Self, String> {
        let bytes = BASE64.decode(text).map_err(|error| error.to_string())?;
        let read: Result<Histogram<u64>, _> = HdrReader::new().deserialize(&mut bytes.as_slice());
        let read = read.map_err(|error| format!("{error:?}"))?;
        let mut times = Self::new();
        times.histogram.add(&read).map_err(|_| "times beyond 60 s".to_owned())?;
        times.clamped = clamped;
        Ok(times)
    }
}

/// A histogram in few bytes: what is kept of each interval.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Packed {
    bytes: Vec<u8>,
    clamped: u64,
}

impl Packed {
    /// The histogram.
    pub(crate) fn unpack(&self) -> Times {
        let mut times = Times::new();
        let read = HdrReader::new().deserialize(&mut self.bytes.as_slice());
        times.histogram = read.expect("only `pack` makes these bytes");
        times.clamped = self.clamped;
        times
    }

    /// Adds another's.
    pub(crate) fn add(&mut self, other: &Self) {
        let mut sum = self.unpack();
        sum.add(&other.unpack());
        *self = sum.pack();
    }
}

/// A histogram in a file. The percentiles are for readers; only the histogram and the
/// count of clamped times are read back.
#[derive(Serialize, Deserialize)]
struct Written {
    #[serde(skip_deserializing)]
    count: u64,
    #[serde(default)]
    clamped: u64,
    #[serde(flatten, skip_deserializing)]
    summary: Summary,
    histogram: String,
}

/// The usual numbers, in microseconds.
#[derive(Default, Serialize)]
struct Summary {
    min_us: f64,
    mean_us: f64,
    p50_us: f64,
    p90_us: f64,
    p99_us: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    p999_us: Option<f64>,
    max_us: f64,
}

/// Microseconds, to a tenth.
fn us(ns: f64) -> f64 {
    (ns / 100.0).round() / 10.0
}

impl Summary {
    fn of(times: &Times) -> Self {
        Self {
            min_us: us(times.min() as f64),
            mean_us: us(times.mean()),
            p50_us: us(times.quantile(0.5) as f64),
            p90_us: us(times.quantile(0.9) as f64),
            p99_us: us(times.quantile(0.99) as f64),
            p999_us: times.p999().map(|ns| us(ns as f64)),
            max_us: us(times.max() as f64),
        }
    }
}

impl Serialize for Times {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let histogram = self.to_base64().map_err(ser::Error::custom)?;
        let (count, clamped) = (self.count(), self.clamped);
        Written { count, clamped, summary: Summary::of(self), histogram }.serialize(to)
    }
}

impl<'de> Deserialize<'de> for Times {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let Written { clamped, histogram, .. } = Written::deserialize(from)?;
        Self::from_base64(&histogram, clamped).map_err(de::Error::custom)
    }
}

impl Serialize for Packed {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.unpack().serialize(to)
    }
}

impl<'de> Deserialize<'de> for Packed {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Times::deserialize(from)?.pack())
    }
}
