use super::{Lens, Mood, View};
use crate::paint::{Canvas, Rgb, bytes, scale};
use crate::rng::texture;
use crate::scene::{Braking, Pedestrian};
use crate::{CarPose, Light, PedestrianPhase, RoadPoint};

const FAR_M: f64 = 140.0;
const BEHIND_M: f64 = 8.0;
const TREE_EVERY_M: f64 = 15.0;
const POST_EVERY_M: f64 = 25.0;

pub(super) fn paint(canvas: &mut Canvas, lens: &Lens, mood: &Mood, view: &View<'_>) {
    let mut things = things_near(view);
    things.retain(|thing| thing.depth_m > Lens::NEAR_M);
    things.sort_by(|a, b| b.depth_m.total_cmp(&a.depth_m));
    let mut brush = Brush { canvas, lens, mood };
    for thing in &things {
        match thing.kind {
            Kind::Tree { height_m } => brush.tree(thing, height_m),
            Kind::Post => brush.post(thing),
            Kind::Person(person) => brush.person(thing, person, view.time_s),
            Kind::Car(car) => brush.car(thing, car),
        }
    }
}

struct Thing<'a> {
    depth_m: f32,
    left_m: f32,
    /// Heading of the road there in the camera's axes.
    sin: f32,
    cos: f32,
    kind: Kind<'a>,
}

enum Kind<'a> {
    Tree { height_m: f32 },
    Post,
    Person(&'a Pedestrian),
    Car(&'a CarPose),
}

fn things_near<'a>(view: &View<'a>) -> Vec<Thing<'a>> {
    let mut things = Vec::new();
    let range = |every_m: f64| ((view.ego_s_m - BEHIND_M) / every_m) as i32..((view.ego_s_m + FAR_M) / every_m) as i32;
    for (number, side) in range(TREE_EVERY_M).flat_map(|number| [(number, 1), (number, -1)]) {
        let random = |salt: i32| f64::from(texture(number * 2 + side, salt ^ view.seed as i32));
        let at = RoadPoint { s_m: (f64::from(number) + random(1)) * TREE_EVERY_M, d_m: f64::from(side) * (8.0 + 12.0 * random(2)) };
        things.push(thing(view, at, Kind::Tree { height_m: 4.0 + 5.0 * random(3) as f32 }));
    }
    for (number, side) in range(POST_EVERY_M).flat_map(|number| [(number, 1.0), (number, -1.0)]) {
        things.push(thing(view, RoadPoint { s_m: f64::from(number) * POST_EVERY_M, d_m: side * 4.9 }, Kind::Post));
    }
    let near = |car: &&CarPose| (view.ego_s_m - BEHIND_M..view.ego_s_m + FAR_M).contains(&car.at.s_m);
    things.extend(view.cars.iter().filter(near).map(|car| thing(view, car.at, Kind::Car(car))));
    things.extend(view.pedestrian.map(|person| thing(view, person.at, Kind::Person(person))));
    things
}

fn thing<'a>(view: &View<'_>, at: RoadPoint, kind: Kind<'a>) -> Thing<'a> {
    let (x, y, heading) = view.road.place(at);
    let (forward, left) = view.ego.from_world(x, y);
    let (sin, cos) = (heading - view.ego.heading_rad).sin_cos();
    Thing { depth_m: (forward - Lens::FORWARD_M) as f32, left_m: left as f32, sin: sin as f32, cos: cos as f32, kind }
}

struct Brush<'a> {
    canvas: &'a mut Canvas,
    lens: &'a Lens,
    mood: &'a Mood,
}

impl Brush<'_> {
    /// A flat shape that faces the camera: corners as (left, up) in meters from the thing's foot.
    fn board(&mut self, thing: &Thing<'_>, corners: &[(f32, f32)], color: Rgb) {
        let points: Vec<_> = corners.iter().map(|(left, up)| self.lens.project(thing.depth_m, thing.left_m + left, *up)).collect();
        self.canvas.fill(&points, color);
    }

    fn lit(&self, thing: &Thing<'_>, color: Rgb) -> Rgb {
        self.mood.seen(color, thing.depth_m, thing.left_m)
    }

    fn tree(&mut self, thing: &Thing<'_>, height_m: f32) {
        let trunk = self.lit(thing, [0.30, 0.21, 0.13]);
        let leaves = self.lit(thing, scale([0.16, 0.33, 0.13], 0.8 + 0.05 * height_m));
        self.board(thing, &rectangle(0.0, 0.18, 0.0, height_m * 0.4), trunk);
        let (middle_m, radius_m) = (height_m * 0.65, height_m * 0.36);
        let crown: Vec<_> = (0..10)
            .map(|corner| {
                let (sin, cos) = (corner as f32 * 0.628_318).sin_cos();
                (cos * radius_m * 0.75, middle_m + sin * radius_m)
            })
            .collect();
        self.board(thing, &crown, leaves);
    }

    fn post(&mut self, thing: &Thing<'_>) {
        let white = self.lit(thing, [0.92, 0.92, 0.92]);
        self.board(thing, &rectangle(0.0, 0.06, 0.0, 1.0), white);
        let reflector = self.mood.shining([0.95, 0.85, 0.6], thing.depth_m);
        self.board(thing, &rectangle(0.0, 0.05, 0.65, 0.85), reflector);
    }

    /// A person in a warning vest; raised arms wave while he wants us to stop.
    fn person(&mut self, thing: &Thing<'_>, person: &Pedestrian, time_s: f64) {
        let leaving = person.phase == PedestrianPhase::Leaving;
        let trousers = self.lit(thing, [0.12, 0.13, 0.25]);
        let skin = self.lit(thing, [0.80, 0.60, 0.48]);
        let vest = self.mood.shining([1.0, 0.42, 0.05], thing.depth_m);
        self.board(thing, &rectangle(-0.13, 0.10, 0.0, 0.85), trousers);
        self.board(thing, &rectangle(0.13, 0.10, 0.0, 0.85), trousers);
        self.board(thing, &rectangle(0.0, 0.27, 0.80, 1.45), vest);
        self.board(thing, &rectangle(0.0, 0.13, 1.48, 1.80), skin);
        let wave_m = 0.14 * (time_s as f32 * 9.0).sin();
        for side in [-1.0, 1.0] {
            let (shoulder, hand) = (0.25 * side, if leaving { 0.36 * side } else { 0.55 * side + wave_m });
            let hand_up_m = if leaving { 0.75 } else { 2.05 };
            let arm = [(shoulder - 0.08, 1.40), (shoulder + 0.08, 1.40), (hand + 0.08, hand_up_m), (hand - 0.08, hand_up_m)];
            self.board(thing, &arm, vest);
        }
    }

    fn car(&mut self, thing: &Thing<'_>, car: &CarPose) {
        let towards_us = car.speed_mps < 0.0;
        let color = self.lit(thing, bytes(car.paint));
        let glass = self.lit(thing, [0.10, 0.12, 0.15]);
        let (length, width) = (CarPose::LENGTH_M as f32, CarPose::WIDTH_M as f32);
        self.solid(thing, &Solid { from: -length / 2.0, to: length / 2.0, width, low: 0.25, high: 0.85 }, color);
        self.solid(thing, &Solid { from: -length * 0.36, to: length * 0.18, width: width * 0.86, low: 0.85, high: 1.42 }, glass);
        let lamp = match (towards_us, car.braking, self.mood.light) {
            (true, _, Light::Night) => self.mood.shining([1.0, 0.98, 0.85], thing.depth_m),
            (true, _, Light::Day) => self.lit(thing, [0.9, 0.9, 0.85]),
            (false, Braking::Yes, _) => self.mood.shining([1.0, 0.12, 0.08], thing.depth_m),
            (false, Braking::No, _) => self.mood.shining([0.62, 0.04, 0.04], thing.depth_m),
        };
        for side in [-1.0, 1.0] {
            let middle = side * width * 0.36;
            let face = [(middle - 0.2, 0.55), (middle + 0.2, 0.55), (middle + 0.2, 0.78), (middle - 0.2, 0.78)];
            self.face(thing, face.map(|(left, up)| (-length / 2.0 - 0.01, left, up)), lamp);
        }
    }

    /// A box along the road; its far faces are painted first and covered by the near ones.
    fn solid(&mut self, thing: &Thing<'_>, solid: &Solid, color: Rgb) {
        let Solid { from, to, width, low, high } = *solid;
        let half = width / 2.0;
        let side = |left: f32| [(from, left, low), (to, left, low), (to, left, high), (from, left, high)];
        let end = |along: f32| [(along, half, low), (along, -half, low), (along, -half, high), (along, half, high)];
        self.face(thing, end(to), scale(color, 0.7));
        let (far, near) = if thing.left_m > 0.0 { (half, -half) } else { (-half, half) };
        self.face(thing, side(far), scale(color, 0.75));
        self.face(thing, side(near), scale(color, 0.75));
        self.face(thing, [(from, half, high), (to, half, high), (to, -half, high), (from, -half, high)], scale(color, 1.1));
        self.face(thing, end(from), color);
    }

    /// A face of a solid, corners as (along the road, left, up); the part behind the camera is cut off.
    fn face(&mut self, thing: &Thing<'_>, corners: [(f32, f32, f32); 4], color: Rgb) {
        let placed = corners.map(|(along, left, up)| {
            let depth = thing.depth_m + along * thing.cos - left * thing.sin;
            (depth, thing.left_m + along * thing.sin + left * thing.cos, up)
        });
        let mut points = Vec::with_capacity(6);
        for (index, a) in placed.iter().enumerate() {
            let b = placed[(index + 1) % placed.len()];
            if a.0 >= Lens::NEAR_M {
                points.push(self.lens.project(a.0, a.1, a.2));
            }
            if (a.0 >= Lens::NEAR_M) != (b.0 >= Lens::NEAR_M) {
                let t = (Lens::NEAR_M - a.0) / (b.0 - a.0);
                points.push(self.lens.project(Lens::NEAR_M, a.1 + (b.1 - a.1) * t, a.2 + (b.2 - a.2) * t));
            }
        }
        self.canvas.fill(&points, color);
    }
}

struct Solid {
    from: f32,
    to: f32,
    width: f32,
    low: f32,
    high: f32,
}

fn rectangle(middle: f32, half_width: f32, low: f32, high: f32) -> [(f32, f32); 4] {
    [(middle - half_width, low), (middle + half_width, low), (middle + half_width, high), (middle - half_width, high)]
}
