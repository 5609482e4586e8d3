//! Plots as inline SVG: a chart has two axes, a few marks and a legend. Colors are CSS classes, so that one drawing serves light and dark.

mod axis;
mod chart;
mod svg;

pub(crate) use axis::Axis;
pub(crate) use chart::{Chart, Corner, LineStyle, Tone};
pub(crate) use svg::escape;
