//! The front camera: sky, ground by looking each pixel up in road coordinates, then everything that stands on it from far to near.

mod ground;
mod objects;

use crate::paint::{Canvas, Rgb, mix, scale};
use crate::scene::Pedestrian;
use crate::{CarPose, EgoState, Frame, Light, Road};

/// Everything that decides an image.
pub(crate) struct View<'a> {
    pub(crate) road: &'a Road,
    pub(crate) ego: &'a EgoState,
    pub(crate) ego_s_m: f64,
    pub(crate) cars: &'a [CarPose],
    pub(crate) pedestrian: Option<&'a Pedestrian>,
    pub(crate) light: Light,
    pub(crate) seed: u64,
    pub(crate) time_s: f64,
}

pub(crate) fn render(view: &View<'_>, width: usize, height: usize) -> Frame {
    let mut canvas = Canvas::for_frame(width, height);
    let lens = Lens::of(&canvas);
    let mood = Mood::of(view.light, view.seed);
    paint_sky(&mut canvas, &lens, &mood, view);
    ground::paint(&mut canvas, &lens, &mood, view);
    objects::paint(&mut canvas, &lens, &mood, view);
    canvas.into_frame()
}

/// A pinhole without distortion, level, in the middle behind the windscreen.
pub(crate) struct Lens {
    focal_px: f32,
    middle_px: f32,
    horizon_px: f32,
}

impl Lens {
    /// From the rear axle forward, and above the ground.
    const FORWARD_M: f64 = 1.6;
    const HEIGHT_M: f32 = 1.4;
    /// Nothing nearer is painted.
    const NEAR_M: f32 = 0.6;

    fn of(canvas: &Canvas) -> Self {
        let (width, height) = (canvas.width as f32, canvas.height as f32);
        // 70 degrees wide; the horizon lies high because the road is what matters.
        Self { focal_px: 0.72 * width, middle_px: width / 2.0, horizon_px: 0.38 * height }
    }

    /// Pixel of a point `depth_m` ahead of the camera, `left_m` beside it and `up_m` above the ground.
    fn project(&self, depth_m: f32, left_m: f32, up_m: f32) -> (f32, f32) {
        let per_meter = self.focal_px / depth_m;
        (self.middle_px - left_m * per_meter, self.horizon_px + (Self::HEIGHT_M - up_m) * per_meter)
    }
}

/// Colors and light of a scenario: a bit different for every seed, so that a model cannot learn one green by heart.
pub(crate) struct Mood {
    light: Light,
    sky_high: Rgb,
    haze: Rgb,
    grass: Rgb,
    asphalt: Rgb,
    hills: Rgb,
    hill_phase: f32,
}

impl Mood {
    fn of(light: Light, seed: u64) -> Self {
        let mut rng = crate::Rng::new(seed ^ 0xC0_10_25);
        let mut vary = |from: f64, to: f64| rng.uniform(from, to) as f32;
        let gray = vary(0.24, 0.36);
        let mut mood = Self {
            light,
            sky_high: [vary(0.30, 0.48), vary(0.52, 0.66), vary(0.80, 0.95)],
            haze: [vary(0.74, 0.84), vary(0.80, 0.88), vary(0.86, 0.93)],
            grass: [vary(0.24, 0.44), vary(0.42, 0.52), vary(0.16, 0.24)],
            asphalt: [gray, gray, gray * 1.04],
            hills: [vary(0.36, 0.44), vary(0.46, 0.54), vary(0.44, 0.56)],
            hill_phase: vary(0.0, 6.2),
        };
        if light == Light::Night {
            mood.sky_high = [0.015, 0.02, 0.05];
            mood.haze = [0.05, 0.055, 0.09];
            mood.hills = [0.02, 0.025, 0.035];
        }
        mood
    }

    /// A surface as the camera sees it at this place: lit by the sun, or by our headlights, and paled by the air between.
    fn seen(&self, surface: Rgb, depth_m: f32, left_m: f32) -> Rgb {
        let clear = (-depth_m / 170.0).exp();
        mix(self.haze, scale(surface, self.brightness(depth_m, left_m)), clear)
    }

    fn brightness(&self, depth_m: f32, left_m: f32) -> f32 {
        match self.light {
            Light::Day => 1.0,
            Light::Night => {
                let aside = left_m / (depth_m + 3.0);
                let beam = (-aside * aside * 4.0).exp() / (1.0 + (depth_m / 26.0).powi(2));
                0.09 + 0.85 * beam
            }
        }
    }

    /// A lamp or reflector: at night it keeps its color and outshines the air.
    fn shining(&self, color: Rgb, depth_m: f32) -> Rgb {
        match self.light {
            Light::Day => self.seen(color, depth_m, 0.0),
            Light::Night => scale(color, 1.15),
        }
    }
}

fn paint_sky(canvas: &mut Canvas, lens: &Lens, mood: &Mood, view: &View<'_>) {
    let ridge_px: Vec<f32> = (0..canvas.width).map(|column| ridge(lens, mood, view, column)).collect();
    for row in 0..(lens.horizon_px as usize + 1).min(canvas.height) {
        let above = (lens.horizon_px - row as f32) / lens.horizon_px;
        let sky = mix(mood.haze, mood.sky_high, above.clamp(0.0, 1.0).sqrt());
        for (pixel, ridge) in canvas.row_mut(row).iter_mut().zip(&ridge_px) {
            *pixel = if row as f32 > *ridge { mix(mood.hills, mood.haze, 0.35) } else { sky };
        }
    }
}

/// Far hills turn with our heading, like a compass.
fn ridge(lens: &Lens, mood: &Mood, view: &View<'_>, column: usize) -> f32 {
    let aside = ((lens.middle_px - column as f32) / lens.focal_px).atan();
    let azimuth = view.ego.heading_rad as f32 + aside;
    let rise = 0.5 + 0.3 * (azimuth * 3.0 + mood.hill_phase).sin() + 0.2 * (azimuth * 7.3 + 2.0 * mood.hill_phase).sin();
    lens.horizon_px * (1.0 - 0.28 * rise)
}
