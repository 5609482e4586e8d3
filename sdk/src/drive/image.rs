//! Camera pixels, resized and in RGB.
//!
//! Shrinking averages over the area that each target pixel covers (as a lens would; every source pixel counts), growing is bilinear
//! between pixel centers, equal sizes copy. NV12 is averaged in its own color space first and converted once per target pixel, with
//! ITU-R BT.709, limited range.

use super::{CameraFrame, PixelFormat};

/// Longest side of a camera image, pixels. Far above any camera; keeps products of sizes within 32 bits.
const SIDE_MAX: u32 = 16_384;

/// The source pixels `start..=end` that make up one target pixel along one axis, and their weights, which add up to 1.
#[derive(Clone, Copy, Debug, Default)]
struct Taps {
    start: u32,
    end: u32,
    first: f32,
    middle: f32,
    last: f32,
}

/// Turns camera frames of any size into lines of `width` RGB pixels, `height` of them.
///
/// The tables depend on the target's size only and the scratch rows hold the widest image, so that a camera that changes its
/// resolution costs no allocation. (Pages of the scratch rows that no camera needs are never touched.)
#[derive(Clone, Debug)]
pub(crate) struct Resizer {
    width: usize,
    height: usize,
    source: Option<(u32, u32, PixelFormat)>,
    luma: Axes,
    chroma: Axes,
    scratch: Scratch,
    chroma_line: Vec<f32>,
    line: Vec<f32>,
}

/// One row of the source's width: source rows are added up here before columns are, because whole rows add up fast.
#[derive(Clone, Debug)]
struct Scratch {
    row: Vec<f32>,
    whole: Vec<u32>,
}

#[derive(Clone, Debug)]
struct Axes {
    columns: Vec<Taps>,
    rows: Vec<Taps>,
}

impl Resizer {
    pub(crate) fn new(width: usize, height: usize) -> Self {
        let axes = Axes { columns: vec![Taps::default(); width], rows: vec![Taps::default(); height] };
        Self {
            width,
            height,
            source: None,
            chroma: axes.clone(),
            luma: axes,
            scratch: Scratch { row: vec![0.0; 3 * SIDE_MAX as usize], whole: vec![0; 3 * SIDE_MAX as usize] },
            chroma_line: vec![0.0; width * 2],
            line: vec![0.0; width * 3],
        }
    }

    /// Adapts the tables to the frame's size and format; an error when the frame's description does not fit its data.
    pub(crate) fn accept(&mut self, frame: &CameraFrame<'_>) -> Result<(), FrameUnfit> {
        check(frame)?;
        let source = (frame.width, frame.height, frame.format);
        if self.source != Some(source) {
            self.luma.adapt(frame.width, frame.height);
            self.chroma.adapt(frame.width.div_ceil(2), frame.height.div_ceil(2));
            self.source = Some(source);
        }
        Ok(())
    }

    /// Line `y` of the resized image: `width` times red, green, blue, each 0 to 255. The frame must have been accepted.
    pub(crate) fn line(&mut self, frame: &CameraFrame<'_>, y: usize) -> &mut [f32] {
        let stride = frame.stride_bytes as usize;
        match frame.format {
            PixelFormat::Rgb8 => {
                let same_size = frame.width as usize == self.width && frame.height as usize == self.height;
                if same_size {
                    let row = &frame.data[y * stride..][..self.width * 3];
                    self.line.iter_mut().zip(row).for_each(|(to, &from)| *to = f32::from(from));
                } else {
                    self.luma.reduce::<3>(y, frame.data, stride, &mut self.scratch, &mut self.line);
                }
            }
            PixelFormat::Nv12 => {
                let (luma, chroma) = frame.data.split_at(stride * frame.height as usize);
                // The first third of the line takes the luma; the conversion runs from the end so as not to overwrite it.
                self.luma.reduce::<1>(y, luma, stride, &mut self.scratch, &mut self.line[..self.width]);
                self.chroma.reduce::<2>(y, chroma, stride, &mut self.scratch, &mut self.chroma_line);
                for x in (0..self.width).rev() {
                    let pixel = bt709(self.line[x], self.chroma_line[2 * x], self.chroma_line[2 * x + 1]);
                    self.line[3 * x..3 * x + 3].copy_from_slice(&pixel);
                }
            }
        }
        &mut self.line
    }

    pub(crate) fn height(&self) -> usize {
        self.height
    }
}

impl Axes {
    fn adapt(&mut self, width: u32, height: u32) {
        fill_taps(&mut self.columns, width);
        fill_taps(&mut self.rows, height);
    }

    /// Line `y` of the target out of a plane of `C` bytes a pixel.
    fn reduce<const C: usize>(&self, y: usize, plane: &[u8], stride: usize, scratch: &mut Scratch, line: &mut [f32]) {
        let values = self.columns.last().map_or(0, |taps| taps.end as usize + 1) * C;
        let row = &mut scratch.row[..values];
        self.rows[y].add_up(plane, stride, row, &mut scratch.whole[..values]);
        for (taps, to) in self.columns.iter().zip(line.chunks_exact_mut(C)) {
            let pixels = &row[taps.start as usize * C..(taps.end as usize + 1) * C];
            let (first, last) = (&pixels[..C], &pixels[pixels.len() - C..]);
            let mut whole = [0.0; C];
            let inner = (pixels.len() - C).max(C);
            for pixel in pixels[C..inner].chunks_exact(C) {
                whole.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += value);
            }
            for (channel, to) in to.iter_mut().enumerate() {
                *to = taps.first * first[channel] + taps.last * last[channel] + taps.middle * whole[channel];
            }
        }
    }
}

impl Taps {
    /// The weighted sum of source rows.
    fn add_up(&self, plane: &[u8], stride: usize, row: &mut [f32], whole: &mut [u32]) {
        let source = |at: u32| &plane[at as usize * stride..][..row.len()];
        let (first, last) = (source(self.start), source(self.end));
        for ((to, &first), &last) in row.iter_mut().zip(first).zip(last) {
            *to = self.first * f32::from(first) + self.last * f32::from(last);
        }
        if self.end - self.start < 2 {
            return;
        }
        // Rows that count whole stay integers: this loop is all the work of shrinking a large image. It wraps so that no check for an
        // overflow keeps the compiler from using vectors; 16,384 rows of 255 stay far below 2^32.
        whole.fill(0);
        for at in self.start + 1..self.end {
            let source = &plane[at as usize * stride..][..whole.len()];
            whole.iter_mut().zip(source).for_each(|(sum, &value)| *sum = sum.wrapping_add(u32::from(value)));
        }
        row.iter_mut().zip(whole).for_each(|(to, sum)| *to += self.middle * *sum as f32);
    }
}

fn fill_taps(taps: &mut [Taps], source: u32) {
    let scale = f64::from(source) / taps.len() as f64;
    for (at, tap) in taps.iter_mut().enumerate() {
        *tap = if scale < 1.0 { bilinear(at, scale, source) } else { area(at, scale, source) };
    }
}

fn bilinear(at: usize, scale: f64, source: u32) -> Taps {
    let center = ((at as f64 + 0.5) * scale - 0.5).clamp(0.0, f64::from(source - 1));
    let start = center as u32;
    let fraction = (center - f64::from(start)) as f32;
    Taps {
        start,
        end: (start + 1).min(source - 1),
        first: if start + 1 < source { 1.0 - fraction } else { 1.0 },
        middle: 0.0,
        last: fraction,
    }
}

fn area(at: usize, scale: f64, source: u32) -> Taps {
    // Rounding noise must not add a pixel with a weight of 1e-16 at an exact border.
    const NOISE: f64 = 1e-9;
    let (from, to) = (at as f64 * scale, (at + 1) as f64 * scale);
    let start = ((from + NOISE) as u32).min(source - 1);
    let end = ((to - NOISE).ceil() as u32).clamp(start + 1, source) - 1;
    let share = |covered: f64| (covered / scale) as f32;
    if start == end {
        return Taps { start, end, first: 1.0, middle: 0.0, last: 0.0 };
    }
    Taps { start, end, first: share(f64::from(start + 1) - from), middle: share(1.0), last: share(to - f64::from(end)) }
}

fn bt709(y: f32, u: f32, v: f32) -> [f32; 3] {
    let y = (y - 16.0) * (255.0 / 219.0);
    let (u, v) = ((u - 128.0) * (255.0 / 224.0), (v - 128.0) * (255.0 / 224.0));
    // Kr = 0.2126, Kb = 0.0722.
    let red = y + 1.5748 * v;
    let green = y - 0.187_324 * u - 0.468_124 * v;
    let blue = y + 1.8556 * u;
    [red.clamp(0.0, 255.0), green.clamp(0.0, 255.0), blue.clamp(0.0, 255.0)]
}

/// Luma of a pixel, ITU-R BT.709, so that it equals the luma of an NV12 camera.
pub(crate) fn luma(rgb: &[f32]) -> f32 {
    0.2126 * rgb[0] + 0.7152 * rgb[1] + 0.0722 * rgb[2]
}

/// Why a camera's image cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameUnfit {
    /// A side is zero or larger than any camera's.
    #[error("its image of {width} x {height} pixels has a side that is not 1 to {SIDE_MAX}")]
    Size {
        /// Width, pixels.
        width: u32,
        /// Height, pixels.
        height: u32,
    },
    /// A row is longer than the distance between two rows.
    #[error("its rows of {row_bytes} bytes do not fit into a stride of {stride_bytes}")]
    Stride {
        /// Bytes from one row to the next as stated.
        stride_bytes: u64,
        /// Bytes of a row by width and format.
        row_bytes: u64,
    },
    /// There is less data than the description needs.
    #[error("its image needs {needed} bytes by its height and stride, it has {found}")]
    Data {
        /// Bytes needed.
        needed: u64,
        /// Bytes supplied.
        found: u64,
    },
}

fn check(frame: &CameraFrame<'_>) -> Result<(), FrameUnfit> {
    let sides = 1..=SIDE_MAX;
    if !sides.contains(&frame.width) || !sides.contains(&frame.height) {
        return Err(FrameUnfit::Size { width: frame.width, height: frame.height });
    }
    let (row, lines) = match frame.format {
        PixelFormat::Rgb8 => (u64::from(frame.width) * 3, u64::from(frame.height)),
        // Chroma covers two by two pixels; odd sizes round up, as cameras do.
        PixelFormat::Nv12 => (u64::from(frame.width).next_multiple_of(2), u64::from(frame.height + frame.height.div_ceil(2))),
    };
    let (stride, found) = (u64::from(frame.stride_bytes), frame.data.len() as u64);
    if stride < row {
        return Err(FrameUnfit::Stride { stride_bytes: stride, row_bytes: row });
    }
    let needed = stride * lines;
    if found < needed { Err(FrameUnfit::Data { needed, found }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(format: PixelFormat, width: u32, height: u32, stride_bytes: u32, data: &[u8]) -> CameraFrame<'_> {
        CameraFrame { camera_id: 0, format, width, height, stride_bytes, frame_id: 1, exposure_ns: 0, data }
    }

    fn resized(frame: &CameraFrame<'_>, width: usize, height: usize) -> Vec<f32> {
        let mut resizer = Resizer::new(width, height);
        assert_eq!(resizer.accept(frame), Ok(()));
        (0..height).flat_map(|y| resizer.line(frame, y).to_vec()).collect()
    }

    #[test]
    fn an_image_of_the_right_size_is_copied_without_the_padding_of_its_rows() {
        let data = [1, 2, 3, 4, 5, 6, 99, 7, 8, 9, 10, 11, 12, 99];
        let found = resized(&frame(PixelFormat::Rgb8, 2, 2, 7, &data), 2, 2);
        assert_eq!(found, (1..=12).map(|v| v as f32).collect::<Vec<_>>());
    }

    #[test]
    fn shrinking_averages_every_source_pixel() {
        // 3 x 1 to 2 x 1: the middle pixel counts half to each side.
        let data = [0, 0, 0, 90, 90, 90, 240, 240, 240];
        let found = resized(&frame(PixelFormat::Rgb8, 3, 1, 9, &data), 2, 1);
        for (found, expected) in found.iter().zip([30.0, 30.0, 30.0, 190.0, 190.0, 190.0]) {
            assert!((found - expected).abs() < 1e-3, "{found} {expected}");
        }
    }

    #[test]
    fn growing_interpolates_between_pixel_centers() {
        let found = resized(&frame(PixelFormat::Rgb8, 2, 1, 6, &[0, 0, 0, 100, 100, 100]), 4, 1);
        let reds: Vec<f32> = found.chunks_exact(3).map(|pixel| pixel[0]).collect();
        assert_eq!(reds, [0.0, 25.0, 75.0, 100.0]);
    }

    #[test]
    fn a_flat_image_stays_flat_at_every_size() {
        for (width, height) in [(1, 1), (5, 3), (64, 48), (641, 359)] {
            let data = vec![77; width * height * 3];
            let frame = frame(PixelFormat::Rgb8, width as u32, height as u32, width as u32 * 3, &data);
            for (w, h) in [(1, 1), (7, 5), (64, 48), (100, 60)] {
                let worst = resized(&frame, w, h).iter().map(|v| (v - 77.0).abs()).fold(0.0, f32::max);
                assert!(worst < 0.01, "{width}x{height} to {w}x{h}: {worst}");
            }
        }
    }

    #[test]
    fn nv12_colors_follow_bt709_limited_range() {
        for ((y, u, v), expected) in [
            ((16, 128, 128), [0.0, 0.0, 0.0]),
            ((235, 128, 128), [255.0, 255.0, 255.0]),
            ((63, 102, 240), [255.0, 0.0, 0.0]),
            ((173, 42, 26), [0.0, 255.0, 0.0]),
            ((32, 240, 118), [0.0, 0.0, 255.0]),
        ] {
            let data = [y, y, y, y, u, v];
            let found = resized(&frame(PixelFormat::Nv12, 2, 2, 2, &data), 2, 2);
            for pixel in found.chunks_exact(3) {
                for (found, expected) in pixel.iter().zip(expected) {
                    assert!((found - expected).abs() < 3.0, "{y} {u} {v}: {pixel:?}");
                }
            }
        }
    }

    #[test]
    fn a_description_that_does_not_fit_its_data_is_not_accepted() {
        let data = [0; 24];
        for (case, wrong) in [
            ("no pixels", frame(PixelFormat::Rgb8, 0, 2, 6, &data)),
            ("narrow stride", frame(PixelFormat::Rgb8, 4, 2, 11, &data)),
            ("too few bytes", frame(PixelFormat::Rgb8, 4, 3, 12, &data)),
            ("no chroma", frame(PixelFormat::Nv12, 4, 6, 4, &data)),
            ("overflow", frame(PixelFormat::Rgb8, u32::MAX, u32::MAX, u32::MAX, &data)),
        ] {
            assert!(Resizer::new(2, 2).accept(&wrong).is_err(), "{case}");
        }
        assert_eq!(Resizer::new(2, 2).accept(&frame(PixelFormat::Rgb8, 4, 2, 12, &data)), Ok(()));
        assert_eq!(Resizer::new(2, 2).accept(&frame(PixelFormat::Nv12, 4, 4, 4, &data)), Ok(()));
    }
}
