/// How values become lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scale {
    Linear,
    /// Base ten; the range must be positive.
    Logarithmic,
}

/// One axis of a chart: what it shows, its unit and its range.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    pub(crate) label: String,
    pub(crate) unit: &'static str,
    pub(crate) min: f64,
    pub(crate) max: f64,
    ticks_max: usize,
    scale: Scale,
}

impl Axis {
    pub(crate) fn new(label: &str, unit: &'static str, range: (f64, f64)) -> Self {
        Self { label: label.to_owned(), unit, min: range.0, max: range.1.max(range.0 + 1e-9), ticks_max: 8, scale: Scale::Linear }
    }

    #[must_use]
    pub(crate) fn with_ticks_max(mut self, ticks_max: usize) -> Self {
        self.ticks_max = ticks_max;
        self
    }

    #[must_use]
    pub(crate) fn logarithmic(mut self) -> Self {
        self.scale = Scale::Logarithmic;
        self.min = self.min.max(f64::MIN_POSITIVE);
        self
    }

    /// Where a value lies between the ends, 0 to 1.
    pub(crate) fn fraction(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => (value - self.min) / (self.max - self.min),
            Scale::Logarithmic => (value.max(self.min) / self.min).log10() / (self.max / self.min).log10(),
        }
    }

    /// Round values inside the range: 1-2-5 apart, or the powers of ten.
    pub(crate) fn ticks(&self) -> Vec<f64> {
        if self.scale == Scale::Logarithmic {
            let (first, last) = (self.min.log10().ceil() as i32, (self.max.log10() + 1e-9).floor() as i32);
            return (first..=last).map(|power| 10_f64.powi(power)).collect();
        }
        let step = nice_step((self.max - self.min) / self.ticks_max.max(1) as f64);
        let first = (self.min / step).ceil() as i64;
        let last = (self.max / step + 1e-9).floor() as i64;
        (first..=last).map(|index| index as f64 * step).collect()
    }

    /// A tick's text with as many decimals as the step between ticks needs.
    pub(crate) fn text(&self, value: f64) -> String {
        if self.scale == Scale::Logarithmic {
            let decimals = (-value.log10().round()).clamp(0.0, 6.0) as usize;
            return format!("{value:.decimals$}");
        }
        let step = nice_step((self.max - self.min) / self.ticks_max.max(1) as f64);
        let decimals = (-step.log10().floor()).clamp(0.0, 6.0) as usize;
        // Without this a tick at the origin can read "-0".
        let value = if value.abs() < step / 1e6 { 0.0 } else { value };
        format!("{value:.decimals$}").replace('-', "\u{2212}")
    }

    pub(crate) fn title(&self) -> String {
        if self.unit.is_empty() { self.label.clone() } else { format!("{} ({})", self.label, self.unit) }
    }
}

/// The smallest of 1, 2, 5 times a power of ten that is not below `raw`.
fn nice_step(raw: f64) -> f64 {
    if raw <= 0.0 || !raw.is_finite() {
        return 1.0;
    }
    let power = 10_f64.powf(raw.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= raw * (1.0 - 1e-9)).unwrap_or(10.0);
    factor * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(range: (f64, f64), ticks_max: usize, expected: &[&str]) {
        check_axis(&Axis::new("t", "s", range).with_ticks_max(ticks_max), expected);
    }

    fn check_axis(axis: &Axis, expected: &[&str]) {
        let texts: Vec<String> = axis.ticks().into_iter().map(|tick| axis.text(tick)).collect();
        assert_eq!(texts, expected);
    }

    #[test]
    fn a_logarithmic_axis_ticks_at_powers_of_ten_and_halves_at_their_geometric_mean() {
        let axis = Axis::new("step", "ms", (0.1, 100.0)).logarithmic();
        check_axis(&axis, &["0.1", "1", "10", "100"]);
        assert!((axis.fraction(10_f64.sqrt()) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn ticks_are_round_and_inside_the_range() {
        check((0.0, 10.0), 5, &["0", "2", "4", "6", "8", "10"]);
        check((-0.31, 0.42), 4, &["\u{2212}0.2", "0.0", "0.2", "0.4"]);
        check((98.0, 131.0), 8, &["100", "105", "110", "115", "120", "125", "130"]);
    }
}
