//! A canvas with the few shapes that the scene is made of. It is painted at twice the size and averaged down, which keeps thin lane
//! markings visible far ahead.

use crate::Frame;

/// Linear color, 0 to 1 and above for lamps.
pub(crate) type Rgb = [f32; 3];

/// Painting happens at this multiple of the frame's size.
pub(crate) const OVERSAMPLING: usize = 2;

pub(crate) struct Canvas {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pixels: Vec<Rgb>,
}

impl Canvas {
    /// A black canvas for a frame of this size.
    pub(crate) fn for_frame(width: usize, height: usize) -> Self {
        let (width, height) = (width * OVERSAMPLING, height * OVERSAMPLING);
        Self { width, height, pixels: vec![[0.0; 3]; width * height] }
    }

    pub(crate) fn row_mut(&mut self, row: usize) -> &mut [Rgb] {
        &mut self.pixels[row * self.width..(row + 1) * self.width]
    }

    /// Fills a convex polygon given by its corners in pixels, in any winding.
    pub(crate) fn fill(&mut self, corners: &[(f32, f32)], color: Rgb) {
        let top = corners.iter().fold(f32::INFINITY, |m, c| m.min(c.1));
        let bottom = corners.iter().fold(f32::NEG_INFINITY, |m, c| m.max(c.1));
        let first = (top - 0.5).ceil().max(0.0) as usize;
        let last = ((bottom - 0.5).floor().min(self.height as f32 - 1.0)).max(-1.0);
        for row in first..(last + 1.0) as usize {
            if let Some((from, to)) = span(corners, row as f32 + 0.5) {
                self.fill_span(row, from, to, color);
            }
        }
    }

    fn fill_span(&mut self, row: usize, from: f32, to: f32, color: Rgb) {
        let first = (from - 0.5).ceil().max(0.0) as usize;
        let end = ((to - 0.5).floor() + 1.0).clamp(0.0, self.width as f32) as usize;
        if first < end {
            self.row_mut(row)[first..end].fill(color);
        }
    }

    /// Averages down to the frame and converts to 8 bits.
    pub(crate) fn into_frame(self) -> Frame {
        let (width, height) = (self.width / OVERSAMPLING, self.height / OVERSAMPLING);
        let mut rgb = Vec::with_capacity(width * height * 3);
        for row in 0..height {
            for column in 0..width {
                let mean = self.mean(column * OVERSAMPLING, row * OVERSAMPLING);
                rgb.extend(mean.map(|value| (value.clamp(0.0, 1.0) * 255.0 + 0.5) as u8));
            }
        }
        Frame { width, height, rgb }
    }

    fn mean(&self, column: usize, row: usize) -> Rgb {
        let mut sum = [0.0; 3];
        for r in row..row + OVERSAMPLING {
            for pixel in &self.pixels[r * self.width + column..r * self.width + column + OVERSAMPLING] {
                // Clamped before averaging: a lamp that outshines the sensor does not brighten its neighbors.
                (0..3).for_each(|channel| sum[channel] += pixel[channel].min(1.0));
            }
        }
        sum.map(|value| value / (OVERSAMPLING * OVERSAMPLING) as f32)
    }
}

/// Where a row enters and leaves a convex polygon.
fn span(corners: &[(f32, f32)], y: f32) -> Option<(f32, f32)> {
    let mut range: Option<(f32, f32)> = None;
    for (index, a) in corners.iter().enumerate() {
        let b = corners[(index + 1) % corners.len()];
        if (a.1 <= y) == (b.1 <= y) {
            continue;
        }
        let x = a.0 + (y - a.1) / (b.1 - a.1) * (b.0 - a.0);
        range = Some(range.map_or((x, x), |(low, high)| (low.min(x), high.max(x))));
    }
    range
}

pub(crate) fn mix(a: Rgb, b: Rgb, t: f32) -> Rgb {
    std::array::from_fn(|i| a[i] + (b[i] - a[i]) * t)
}

pub(crate) fn scale(a: Rgb, by: f32) -> Rgb {
    a.map(|value| value * by)
}

pub(crate) fn bytes(color: [u8; 3]) -> Rgb {
    color.map(|value| f32::from(value) / 255.0)
}
