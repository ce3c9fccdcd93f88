//! One measured promise: the number, its limit, the floor beside it, and whether it holds.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Ms,
    Mb,
    PerMinute,
    MsPerMinute,
    GbPerS,
    MbPerS,
    S,
    Count,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::Ms => "ms",
            Self::Mb => "MB",
            Self::PerMinute => "/min",
            Self::MsPerMinute => "ms/min",
            Self::GbPerS => "GB/s",
            Self::MbPerS => "MB/s",
            Self::S => "s",
            Self::Count => "",
        }
    }
}

/// What was promised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Limit {
    AtMost(f64),
    AtLeast(f64),
    /// At most so many times the floor.
    TimesFloor(f64),
    /// At least the number, or so many times the floor on a machine that is slow itself.
    AtLeastOrTimesFloor(f64, f64),
    /// Nothing: shown because it explains a number beside it.
    Shown,
}

#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) promise: u8,
    pub(crate) what: String,
    pub(crate) limit: Limit,
    pub(crate) value: f64,
    pub(crate) unit: Unit,
    pub(crate) floor: Option<f64>,
}

impl Row {
    pub(crate) fn new(promise: u8, what: impl Into<String>, limit: Limit, value: f64, unit: Unit) -> Self {
        Self { promise, what: what.into(), limit, value, unit, floor: None }
    }

    /// A duration that is compared with the floor's.
    pub(crate) fn against(
        promise: u8,
        what: impl Into<String>,
        limit: Limit,
        value: Duration,
        floor: Duration,
    ) -> Self {
        Self { floor: Some(ms(floor)), ..Self::new(promise, what, limit, ms(value), Unit::Ms) }
    }

    pub(crate) fn holds(&self) -> bool {
        let times_floor = |factor: f64| factor * self.floor.unwrap_or(0.0);
        match self.limit {
            Limit::AtMost(limit) => self.value <= limit,
            Limit::AtLeast(limit) => self.value >= limit,
            Limit::TimesFloor(factor) => self.value <= times_floor(factor),
            Limit::AtLeastOrTimesFloor(limit, factor) => {
                self.value >= limit || self.floor.is_some() && self.value >= times_floor(factor)
            }
            Limit::Shown => true,
        }
    }

    fn limit_text(&self) -> String {
        let unit = self.unit.name();
        match self.limit {
            Limit::AtMost(limit) => format!("≤ {limit} {unit}").trim_end().to_owned(),
            Limit::AtLeast(limit) => format!("≥ {limit} {unit}").trim_end().to_owned(),
            Limit::TimesFloor(factor) => format!("≤ {factor} × floor"),
            Limit::AtLeastOrTimesFloor(limit, factor) => format!("≥ {limit} {unit} or {factor} × floor"),
            Limit::Shown => "-".to_owned(),
        }
    }

    fn measured_text(&self) -> String {
        let number = short(self.value, self.unit);
        match self.floor {
            Some(floor) if floor > 0.0 => format!("{number} = {:.2} ×", self.value / floor),
            Some(_) | None => number,
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "promise": self.promise,
            "what": self.what,
            "limit": self.limit_text(),
            "value": self.value,
            "unit": self.unit.name(),
            "floor": self.floor,
            "times_floor": self.floor.map(|floor| self.value / floor),
            "holds": self.holds(),
        })
    }
}

fn short(value: f64, unit: Unit) -> String {
    let unit = unit.name();
    let digits = if value >= 100.0 || value.fract() == 0.0 { 0 } else { 3 };
    format!("{value:.digits$} {unit}").trim_end().to_owned()
}

pub(crate) fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

/// Columns for people.
impl fmt::Display for Row {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.limit {
            Limit::Shown => "",
            _ if self.holds() => "ok",
            _ => "BROKEN",
        };
        let floor = self.floor.map_or_else(|| "-".to_owned(), |floor| short(floor, self.unit));
        let (number, what, limit, measured) = (self.promise, &self.what, self.limit_text(), self.measured_text());
        write!(formatter, "{number}  {what:<52} {limit:<26} {measured:<20} {floor:<12} {verdict}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_at_its_limit_holds_and_one_beyond_does_not() {
        let holds = |limit, value, floor| Row { floor, ..Row::new(1, "x", limit, value, Unit::Ms) }.holds();
        assert!(holds(Limit::AtMost(2.0), 2.0, None) && !holds(Limit::AtMost(2.0), 2.1, None));
        assert!(holds(Limit::AtLeast(2.0), 2.0, None) && !holds(Limit::AtLeast(2.0), 1.9, None));
        assert!(holds(Limit::TimesFloor(2.5), 5.0, Some(2.0)) && !holds(Limit::TimesFloor(2.5), 5.1, Some(2.0)));
        assert!(!holds(Limit::TimesFloor(2.5), 0.1, None), "without a floor nothing is proven");
        let either = Limit::AtLeastOrTimesFloor(1.0, 0.5);
        assert!(holds(either, 0.6, Some(1.0)) && holds(either, 1.0, Some(9.0)) && !holds(either, 0.4, Some(1.0)));
    }
}
