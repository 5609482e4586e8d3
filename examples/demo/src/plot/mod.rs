//! Plots as inline SVG: a chart has two axes, a few marks and a legend. Colors are CSS classes, so that one drawing serves light and dark.

mod axis;
mod chart;
mod svg;

pub use axis::Axis;
pub use chart::{Chart, Corner, LineStyle, Tone};
pub use svg::escape;
