//! Figures from the vehicles' logs.

use switchback_road_sim::{Road, RoadSample};

use crate::frames::Frame;

/// Mean and percentiles of a quantity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    pub count: usize,
    pub mean: f64,
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
}

impl Figures {
    pub fn of(values: impl Iterator<Item = f64>) -> Self {
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
pub struct Drive {
    pub offset_m: Figures,
    pub run_us: Figures,
}

/// The frames that `model` answered.
pub fn drive<'a>(frames: impl Iterator<Item = &'a Frame> + Clone, model: &str) -> Drive {
    let of_model = || frames.clone().filter(|frame| frame.driven_by_model() && frame.model == model);
    Drive {
        offset_m: Figures::of(of_model().filter_map(|frame| frame.lane_offset_m).map(f64::abs)),
        run_us: Figures::of(of_model().map(|frame| frame.run_us)),
    }
}

/// Index of the first answer of `model` in place of another model.
pub fn swap_to(frames: &[Frame], model: &str) -> Option<usize> {
    frames.windows(2).position(|pair| pair[1].swapped && pair[1].model == model && pair[0].driven_by_model()).map(|before| before + 1)
}

/// Numbers that a log should hold between its first and its last frame and does not.
pub fn gaps(frames: &[Frame]) -> u64 {
    frames.windows(2).map(|pair| pair[1].sequence.saturating_sub(pair[0].sequence).saturating_sub(1)).sum()
}

/// The middle line at the place of a frame, found without a hint: the frame alone does not say how far along the road it is.
pub fn road_at(road: &Road, frame: &Frame) -> RoadSample {
    let meters = 0..road.length_m() as u32;
    let samples = meters.map(|meter| road.at(f64::from(meter)));
    let distance = |sample: &RoadSample| (sample.x_m - frame.x_m).hypot(sample.y_m - frame.y_m);
    samples.min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or_default()
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
    fn the_road_under_a_frame_is_found() {
        let road = Road::from_seed(3, 500.0);
        let (x_m, y_m, heading_rad) = road.place(switchback_road_sim::RoadPoint { s_m: 240.0, d_m: -1.75 });
        let frame = Frame { x_m, y_m, heading_rad, ..Frame::default() };
        assert!((road_at(&road, &frame).heading_rad - heading_rad).abs() < 0.03);
    }
}
