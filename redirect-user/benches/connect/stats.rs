//! The median and extremes of measurements.

use serde::Serialize;

/// The summary of several measurements of one quantity.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Summarizes values; `None` if there are none.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let upper = *values.get(middle)?;
        let lower = if values.len().is_multiple_of(2) {
            *values.get(middle - 1)?
        } else {
            upper
        };
        Some(Self {
            min: *values.first()?,
            median: f64::midpoint(lower, upper),
            max: *values.last()?,
        })
    }
}
