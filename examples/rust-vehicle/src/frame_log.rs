use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use switchback_sdk::drive::DriveOutput;

use crate::trip::Trip;

/// The columns of the C example, then what only an onlooker knows, whom the C example keeps in another process.
const HEADER: &str = "time_s,sequence,x_m,y_m,heading_rad,speed_mps,curvature_1pm,acceleration_mps2,step_us,run_us,missed,model,version,\
                      generation,swapped,fell_back,takeover,minimal_risk,faults,control_valid,lane_offset_m,off_lane,road";

/// One CSV row per frame, handed to the system after every frame so that others can follow the drive.
pub(crate) struct FrameLog {
    out: BufWriter<File>,
}

/// One frame as it went.
pub(crate) struct Row<'a> {
    /// Since the start of the program.
    pub(crate) time_s: f64,
    /// Before the vehicle acts on the answer: position and offset are those of the frame.
    pub(crate) trip: &'a Trip,
    pub(crate) answer: &'a DriveOutput,
    /// Frames that were due before the step ended.
    pub(crate) missed: u64,
}

impl FrameLog {
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let mut out = BufWriter::new(File::create(path)?);
        writeln!(out, "{HEADER}")?;
        Ok(Self { out })
    }

    pub(crate) fn write(&mut self, row: &Row<'_>) -> io::Result<()> {
        let (answer, ego, status) = (row.answer, row.trip.world().ego(), row.trip.world().status());
        let (model, out) = (&answer.model, &mut self.out);
        write!(out, "{:.6},{},{:.4},{:.4},{:.6}", row.time_s, answer.sequence, ego.x_m, ego.y_m, ego.heading_rad)?;
        write!(out, ",{:.4},{:.6},{:.4}", ego.speed_mps, answer.control.curvature_1pm, answer.control.acceleration_mps2)?;
        write!(out, ",{},{},{}", answer.total_ns / 1000, answer.run_ns / 1000, row.missed)?;
        write!(out, ",{},{},{}", text(&model.name), text(&model.version), model.generation)?;
        write!(out, ",{},{},{}", u8::from(answer.swapped), u8::from(answer.fell_back), answer.takeover.level as u32)?;
        write!(out, ",{},{},{}", answer.minimal_risk as u32, answer.faults.bits(), u8::from(answer.control_valid))?;
        writeln!(out, ",{:.4},{},{}", status.lateral_offset_m, u8::from(status.off_lane), row.trip.roads())?;
        out.flush()
    }
}

/// A name or version as text: what stands before the closing zero.
pub(crate) fn text(bytes: &[u8]) -> &str {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    std::str::from_utf8(&bytes[..end]).unwrap_or("?")
}
