//! The log that every vehicle writes: one CSV line per frame. Read while it grows.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// The header that both example vehicles write.
pub const HEADER: &str = "wall_ns,sequence,sim_time_s,x_m,y_m,heading_rad,lane_offset_m,speed_mps,step_us,run_us,missed,model,version,\
                          generation,swapped,fell_back,takeover,faults";

/// One frame of one vehicle.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// Unix time, s.
    pub wall_s: f64,
    pub sequence: u64,
    pub sim_time_s: f64,
    pub x_m: f64,
    pub y_m: f64,
    pub heading_rad: f64,
    /// From the middle of our lane, left positive.
    pub lane_offset_m: f64,
    pub speed_mps: f64,
    pub step_us: f64,
    pub run_us: f64,
    pub missed: bool,
    /// Empty while the vehicle has no model.
    pub model: String,
    pub version: String,
    pub generation: u64,
    pub swapped: bool,
    pub fell_back: bool,
    pub takeover: u32,
    pub faults: u64,
}

impl Frame {
    fn parse(line: &str) -> Result<Self> {
        let fields: Vec<&str> = line.split(',').collect();
        let expected = HEADER.split(',').count();
        ensure!(fields.len() == expected, "{} fields instead of {expected}: {line}", fields.len());
        let float = |index: usize| fields[index].parse::<f64>().with_context(|| format!("field {} of {line}", index + 1));
        let whole = |index: usize| fields[index].parse::<u64>().with_context(|| format!("field {} of {line}", index + 1));
        Ok(Self {
            wall_s: float(0)? / 1e9,
            sequence: whole(1)?,
            sim_time_s: float(2)?,
            x_m: float(3)?,
            y_m: float(4)?,
            heading_rad: float(5)?,
            lane_offset_m: float(6)?,
            speed_mps: float(7)?,
            step_us: float(8)?,
            run_us: float(9)?,
            missed: whole(10)? != 0,
            model: fields[11].to_owned(),
            version: fields[12].to_owned(),
            generation: whole(13)?,
            swapped: whole(14)? != 0,
            fell_back: whole(15)? != 0,
            takeover: u32::try_from(whole(16)?)?,
            faults: whole(17)?,
        })
    }

    /// A model answered, as opposed to the driver driving.
    pub fn driven_by_model(&self) -> bool {
        self.generation > 0
    }
}

/// A log that may still grow.
pub struct FrameLog {
    path: PathBuf,
    read_to: u64,
    header_seen: bool,
    frames: Vec<Frame>,
}

impl FrameLog {
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), read_to: 0, header_seen: false, frames: Vec::new() }
    }

    /// Reads what was added since; a last line that is not complete yet waits for the next time.
    pub fn refresh(&mut self) -> Result<&[Frame]> {
        let Ok(mut file) = File::open(&self.path) else {
            return Ok(&self.frames); // The vehicle has not come to its first frame.
        };
        file.seek(SeekFrom::Start(self.read_to))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        for line in text[..whole].lines() {
            if self.header_seen {
                self.frames.push(Frame::parse(line).with_context(|| format!("{}", self.path.display()))?);
            } else {
                ensure!(line == HEADER, "{}: unexpected header {line}", self.path.display());
                self.header_seen = true;
            }
        }
        self.read_to += whole as u64;
        Ok(&self.frames)
    }

    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const LINE: &str = "1700000000500000000,7,0.35,1.5,-2.5,0.1,-0.25,9.5,812,640,0,vla,1.0.0,1,0,0,0,0";

    #[test]
    fn a_line_that_is_half_written_is_read_when_it_is_whole() {
        let path = std::env::temp_dir().join(format!("switchback-frames-{}.csv", std::process::id()));
        let mut log = FrameLog::new(&path);
        std::fs::write(&path, format!("{HEADER}\n{LINE}\n{}", &LINE[..20])).unwrap();
        assert_eq!(log.refresh().unwrap().len(), 1);
        std::fs::write(&path, format!("{HEADER}\n{LINE}\n{LINE}\n")).unwrap();
        assert_eq!(log.refresh().unwrap().len(), 2);
        assert_eq!(log.frames()[0], log.frames()[1]);
        assert!((log.frames()[0].wall_s - 1_700_000_000.5).abs() < 1e-6);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_line_with_a_field_too_few_is_refused() {
        assert!(Frame::parse(LINE.rsplit_once(',').unwrap().0).unwrap_err().to_string().contains("17 fields instead of 18"));
    }
}
