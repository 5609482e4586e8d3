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

/// Frames that are not in the log although the camera made them, at `period_s` from one to the next.
pub(crate) fn lost(frames: &[Frame], period_s: f64) -> u64 {
    let gap = |pair: &[Frame]| ((pair[1].time_s - pair[0].time_s) / period_s).round() as u64;
    frames.windows(2).map(|pair| gap(pair).saturating_sub(1)).sum()
}

/// Indices of the first answers of another model than before, the previous one's return included.
pub(crate) fn changes(frames: &[Frame]) -> Vec<usize> {
    let changed = |index: &usize| frames[index - 1].driven_by_model() && frames[*index].model != frames[index - 1].model;
    (1..frames.len()).filter(changed).collect()
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

    #[test]
    fn a_frame_that_is_not_in_the_log_is_lost() {
        let frame = |time_s| Frame { time_s, ..Frame::default() };
        assert_eq!(lost(&[frame(1.0), frame(1.05), frame(1.2), frame(1.251)], 0.05), 2);
    }

    #[test]
    fn every_change_of_the_model_is_found() {
        let frame = |model: &str| Frame { model: model.to_owned(), generation: u64::from(!model.is_empty()), ..Frame::default() };
        let frames = ["", "vla-1", "vla-1", "vla-2", "vla-3", "vla-2", "vla-2"].map(frame);
        assert_eq!(changes(&frames), [3, 4, 5]);
    }
}
