//! The log that every vehicle writes: one CSV row per frame. Read while it grows.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// One frame of one vehicle.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Frame {
    /// Since the start of the vehicle's program.
    pub(crate) time_s: f64,
    pub(crate) sequence: u64,
    pub(crate) x_m: f64,
    pub(crate) y_m: f64,
    pub(crate) heading_rad: f64,
    pub(crate) speed_mps: f64,
    pub(crate) step_us: f64,
    pub(crate) run_us: f64,
    /// Frames that were due before the step ended.
    pub(crate) missed: u64,
    /// Empty while the vehicle has no model.
    pub(crate) model: String,
    pub(crate) version: String,
    /// Rises with every model that the vehicle activates; 0 while it has none.
    pub(crate) generation: u64,
    pub(crate) swapped: bool,
    pub(crate) fell_back: bool,
    pub(crate) takeover: u32,
    pub(crate) faults: u64,
    /// The answer came from a model and kept the envelope.
    pub(crate) valid: bool,
    /// From the middle of our lane, left positive. Not in the C program's log: its simulator's own log has it.
    pub(crate) lane_offset_m: Option<f64>,
    /// A wheel is outside our lane. As above.
    pub(crate) off_lane: bool,
    /// Which road it drives on, from 1; the positions of two roads have nothing to do with each other.
    pub(crate) road: u64,
}

impl Frame {
    /// A model answered, as opposed to the driver driving.
    pub(crate) fn driven_by_model(&self) -> bool {
        self.generation > 0
    }
}

/// Where each column stands; the programs may add columns of their own.
struct Columns(HashMap<String, usize>);

impl Columns {
    fn new(header: &str) -> Self {
        Self(header.split(',').enumerate().map(|(index, name)| (name.to_owned(), index)).collect())
    }

    fn parse(&self, line: &str) -> Result<Frame> {
        let fields: Vec<&str> = line.split(',').collect();
        ensure!(fields.len() == self.0.len(), "{} fields instead of {}: {line}", fields.len(), self.0.len());
        let find = |name: &str| self.0.get(name).map(|&index| fields[index]);
        let text = |name: &str| find(name).with_context(|| format!("there is no column {name}"));
        let float = |name: &str| text(name)?.parse::<f64>().with_context(|| format!("{name} in {line}"));
        let whole = |name: &str| text(name)?.parse::<u64>().with_context(|| format!("{name} in {line}"));
        Ok(Frame {
            time_s: float("time_s")?,
            sequence: whole("sequence")?,
            x_m: float("x_m")?,
            y_m: float("y_m")?,
            heading_rad: float("heading_rad")?,
            speed_mps: float("speed_mps")?,
            step_us: float("step_us")?,
            run_us: float("run_us")?,
            missed: whole("missed")?,
            model: text("model")?.to_owned(),
            version: text("version")?.to_owned(),
            generation: whole("generation")?,
            swapped: whole("swapped")? != 0,
            fell_back: whole("fell_back")? != 0,
            takeover: u32::try_from(whole("takeover")?)?,
            faults: whole("faults")?,
            valid: whole("control_valid")? != 0,
            lane_offset_m: find("lane_offset_m").map(str::parse).transpose()?,
            off_lane: find("off_lane") == Some("1"),
            road: find("road").map_or(Ok(1), str::parse)?,
        })
    }
}

/// A log that may still grow.
pub(crate) struct FrameLog {
    path: PathBuf,
    read_to: u64,
    columns: Option<Columns>,
    frames: Vec<Frame>,
}

impl FrameLog {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), read_to: 0, columns: None, frames: Vec::new() }
    }

    /// Reads what was added since; a last line that is not complete yet waits for the next time.
    pub(crate) fn refresh(&mut self) -> Result<&[Frame]> {
        let Ok(mut file) = File::open(&self.path) else {
            return Ok(&self.frames); // The vehicle has not come to its first frame.
        };
        file.seek(SeekFrom::Start(self.read_to))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        for line in text[..whole].lines() {
            match &self.columns {
                Some(columns) => self.frames.push(columns.parse(line).with_context(|| format!("{}", self.path.display()))?),
                None => self.columns = Some(Columns::new(line)),
            }
        }
        self.read_to += whole as u64;
        Ok(&self.frames)
    }

    pub(crate) fn frames(&self) -> &[Frame] {
        &self.frames
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const HEADER: &str = "time_s,sequence,x_m,y_m,heading_rad,speed_mps,curvature_1pm,acceleration_mps2,step_us,run_us,missed,model,\
                          version,generation,swapped,fell_back,takeover,minimal_risk,faults,control_valid";
    const LINE: &str = "0.350000,7,1.5,-2.5,0.1,9.5,0.01,0.2,812,640,0,vla-1,1.0.0,1,0,0,0,0,0,1";

    #[test]
    fn a_line_that_is_half_written_is_read_when_it_is_whole() {
        let path = std::env::temp_dir().join(format!("switchback-frames-{}.csv", std::process::id()));
        let mut log = FrameLog::new(&path);
        std::fs::write(&path, format!("{HEADER}\n{LINE}\n{}", &LINE[..20])).unwrap();
        assert_eq!(log.refresh().unwrap().len(), 1);
        std::fs::write(&path, format!("{HEADER}\n{LINE}\n{LINE}\n")).unwrap();
        assert_eq!(log.refresh().unwrap().len(), 2);
        assert_eq!(log.frames()[0], log.frames()[1]);
        assert_eq!((log.frames()[0].sequence, log.frames()[0].valid, log.frames()[0].lane_offset_m), (7, true, None));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn columns_are_found_by_name() {
        let frame = Columns::new(&format!("{HEADER},lane_offset_m,road")).parse(&format!("{LINE},-0.25,3")).unwrap();
        assert_eq!((frame.lane_offset_m, frame.road), (Some(-0.25), 3));
    }

    #[test]
    fn a_line_with_a_field_too_few_is_refused() {
        let error = Columns::new(HEADER).parse(LINE.rsplit_once(',').unwrap().0).unwrap_err().to_string();
        assert!(error.contains("19 fields instead of 20"), "{error}");
    }
}
