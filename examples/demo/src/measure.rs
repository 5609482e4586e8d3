//! Figures from the vehicles' logs.

use crate::frames::Frame;

/// Mean and percentiles of a quantity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Figures {
    pub(crate) count: usize,
    pub(crate) mean: f64,
    pub p50: f64,
    pub p99: f64,
    pub(crate) max: f64,
}

impl Figures {
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let at =
            |part: f64| values.get(((values.len() as f64 * part) as usize).min(values.len().saturating_sub(1))).copied().unwrap_or(0.0);
        let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
        Self { count: values.len(), mean, p50: at(0.5), p99: at(0.99), max: at(1.0) }
    }
}

/// How one model drove.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drive {
    pub(crate) offset_m: Figures,
    pub(crate) run_us: Figures,
}

/// How the model that answered these frames drove.
pub(crate) fn drive<'a>(frames: impl Iterator<Item = &'a Frame> + Clone) -> Drive {
    Drive {
        offset_m: Figures::of(frames.clone().filter_map(|frame| frame.lane_offset_m).map(f64::abs)),
        run_us: Figures::of(frames.map(|frame| frame.run_us)),
    }
}

/// Index of the first answer of `model` in place of another model.
pub(crate) fn swap_to(frames: &[Frame], model: &str) -> Option<usize> {
    frames.windows(2).position(|pair| pair[1].swapped && pair[1].model == model && pair[0].driven_by_model()).map(|before| before + 1)
}

/// Numbers that a log should hold between its first and its last frame and does not.
pub(crate) fn gaps(frames: &[Frame]) -> u64 {
    frames.windows(2).map(|pair| pair[1].sequence.saturating_sub(pair[0].sequence).saturating_sub(1)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_of_the_set() {
        let figures = Figures::of((1..=100).map(f64::from));
        assert_eq!(figures, Figures { count: 100, mean: 50.5, p50: 51.0, p99: 100.0, max: 100.0 });
        assert_eq!(Figures::of(std::iter::empty()).max, 0.0);
    }
}
