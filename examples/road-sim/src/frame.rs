/// A camera image: RGB, 8 bits each, rows from the top, no padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub width: usize,
    pub height: usize,
    pub rgb: Vec<u8>,
}

impl Frame {
    /// The same image as NV12, as most automotive cameras deliver it: a plane of luma, then one of interleaved Cb and Cr at half the
    /// width and height. BT.709, limited range. Width and height must be even, as NV12 demands; an odd last column or row is left out.
    pub fn to_nv12(&self) -> Vec<u8> {
        let (width, height) = (self.width & !1, self.height & !1);
        let mut out = Vec::with_capacity(width * height * 3 / 2);
        for row in 0..height {
            out.extend((0..width).map(|column| {
                let [r, g, b] = self.pixel(column, row);
                (16.0 + 0.182_586 * r + 0.614_231 * g + 0.062_007 * b).round() as u8
            }));
        }
        for row in (0..height).step_by(2) {
            for column in (0..width).step_by(2) {
                let [r, g, b] = self.mean_of_four(column, row);
                out.push((128.0 - 0.100_644 * r - 0.338_572 * g + 0.439_216 * b).round() as u8);
                out.push((128.0 + 0.439_216 * r - 0.398_942 * g - 0.040_274 * b).round() as u8);
            }
        }
        out
    }

    fn pixel(&self, column: usize, row: usize) -> [f32; 3] {
        let at = (row * self.width + column) * 3;
        [self.rgb[at], self.rgb[at + 1], self.rgb[at + 2]].map(f32::from)
    }

    fn mean_of_four(&self, column: usize, row: usize) -> [f32; 3] {
        let mut sum = [0.0; 3];
        for (dc, dr) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
            let pixel = self.pixel(column + dc, row + dr);
            for channel in 0..3 {
                sum[channel] += pixel[channel] / 4.0;
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nv12_of_plain_colors_has_the_values_of_bt_709() {
        let check = |rgb: [u8; 3], expected: [u8; 3]| {
            let frame = Frame { width: 2, height: 2, rgb: rgb.repeat(4) };
            let nv12 = frame.to_nv12();
            assert_eq!((nv12.len(), [nv12[0], nv12[4], nv12[5]]), (6, expected), "{rgb:?}");
        };
        check([0, 0, 0], [16, 128, 128]);
        check([255, 255, 255], [235, 128, 128]);
        check([255, 0, 0], [63, 102, 240]);
        check([0, 0, 255], [32, 240, 118]);
    }
}
