use std::io::{self, Write};

use switchback_road_sim::bridge::{Ending, LogEntry};
use switchback_road_sim::{LANE_WIDTH_M, RoadPoint, World};

/// A quantity of the log: its name and how a step yields it.
type Column = (&'static str, fn(&LogEntry) -> f64);

/// A run, step by step, for the report's plots.
#[derive(Default)]
pub(crate) struct Log {
    entries: Vec<LogEntry>,
}

impl Log {
    pub(crate) fn push(&mut self, entry: LogEntry) {
        self.entries.push(entry);
    }

    pub(crate) fn steps(&self) -> usize {
        self.entries.len()
    }

    /// One line of JSON that says how it went.
    pub(crate) fn summary(&self, world: &World, ending: Ending) -> String {
        let status = world.status();
        let offsets = || self.entries.iter().map(|entry| entry.status.lateral_offset_m.abs());
        let mean = offsets().sum::<f64>() / self.entries.len().max(1) as f64;
        let most = offsets().fold(0.0, f64::max);
        let off_lane = self.entries.iter().filter(|entry| entry.status.off_lane).count();
        let ending = match ending {
            Ending::Done => "done",
            Ending::DriverLeft => "driver_left",
        };
        format!(
            "{{\"seed\":{},\"steps\":{},\"progress_m\":{:.2},\"offset_mean_m\":{mean:.4},\"offset_max_m\":{most:.4},\
             \"off_lane_steps\":{off_lane},\"collided\":{},\"stopped_for_pedestrian\":{},\"ending\":\"{ending}\"}}",
            world.scenario().seed,
            self.steps(),
            status.progress_m,
            status.collided,
            status.stopped_for_pedestrian,
        )
    }

    /// The whole run: the summary, one array per quantity, and the lane's edges to draw under the path.
    pub(crate) fn write(&self, world: &World, ending: Ending, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{{\"summary\":{},", self.summary(world, ending))?;
        let columns: [Column; 9] = [
            ("x_m", |entry| entry.ego.x_m),
            ("y_m", |entry| entry.ego.y_m),
            ("heading_rad", |entry| entry.ego.heading_rad),
            ("speed_mps", |entry| entry.ego.speed_mps),
            ("offset_m", |entry| entry.status.lateral_offset_m),
            ("off_lane", |entry| f64::from(u8::from(entry.status.off_lane))),
            ("curvature_1_m", |entry| entry.answer.control.curvature_1_m),
            ("acceleration_mps2", |entry| entry.answer.control.acceleration_mps2),
            ("mark", |entry| f64::from(entry.answer.mark)),
        ];
        for (name, value) in columns {
            writeln!(out, "\"{name}\":{},", array(self.entries.iter().map(value)))?;
        }
        writeln!(out, "\"lane_right\":{},", edge(world, -LANE_WIDTH_M))?;
        writeln!(out, "\"road_middle\":{},", edge(world, 0.0))?;
        writeln!(out, "\"road_left\":{}}}", edge(world, LANE_WIDTH_M))?;
        out.flush()
    }
}

fn edge(world: &World, d_m: f64) -> String {
    let points = (0..=(world.scenario().length_m / 2.0) as u32).map(|number| f64::from(number) * 2.0).map(|s_m| {
        let (x, y, _) = world.road().place(RoadPoint { s_m, d_m });
        array([x, y].into_iter())
    });
    format!("[{}]", points.collect::<Vec<_>>().join(","))
}

/// JSON knows no NaN; a control that is none is written as null.
fn array(values: impl Iterator<Item = f64>) -> String {
    let words = values.map(|value| if value.is_finite() { format!("{value:.5}") } else { "null".to_owned() });
    format!("[{}]", words.collect::<Vec<_>>().join(","))
}
