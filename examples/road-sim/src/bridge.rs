//! The protocol by which a program in any language drives the simulator over a pair of pipes.
//!
//! The simulator writes an observation, reads a control, steps, and so on; time stands still in between. All numbers are little-endian.
//!
//! **Observation**: [`OBSERVATION_BYTES`] of header, then `payload_bytes` of pixels.
//!
//! | offset | type | field |
//! |---|---|---|
//! | 0 | `u32` | magic `0x4F425753` ("SWBO") |
//! | 4 | `u16` | protocol version, 1 |
//! | 6 | `u16` | bytes of this header, 80 |
//! | 8 | `u64` | sequence, from 0 |
//! | 16 | `i64` | time of exposure, ns |
//! | 24 | `u32` | width |
//! | 28 | `u32` | height |
//! | 32 | `u32` | pixel format: 0 RGB8 (stride `width * 3`), 1 NV12 (luma plane, then interleaved chroma, stride `width`) |
//! | 36 | `u32` | payload bytes; 0 in the last observation |
//! | 40 | `u32` | route command: 0 follow, 1 left, 2 right, 3 stop |
//! | 44 | `u32` | flags: bit 0 night, bit 1 the run is over and no control is read any more |
//! | 48 | `f32` | speed, m/s |
//! | 52 | `f32` | longitudinal acceleration, m/s2 |
//! | 56 | `f32` | lateral acceleration, m/s2, left positive |
//! | 60 | `f32` | yaw rate, rad/s, left positive |
//! | 64 | `f32` | road-wheel angle, rad, left positive |
//! | 68 | 12 bytes | zero |
//!
//! **Control**: [`CONTROL_BYTES`].
//!
//! | offset | type | field |
//! |---|---|---|
//! | 0 | `u32` | magic `0x43425753` ("SWBC") |
//! | 4 | `u16` | protocol version, 1 |
//! | 6 | `u16` | bytes of this message, 32 |
//! | 8 | `u64` | sequence of the observation that it answers |
//! | 16 | `f32` | path curvature, 1/m, left positive |
//! | 20 | `f32` | acceleration, m/s2 |
//! | 24 | `u32` | flags: bit 0 end the run after this step |
//! | 28 | `u32` | mark: any number, such as the generation of the model that answered; kept in the log |
//!
//! The run ends at the destination, in a collision, when the driver asks for it or closes the pipe.

use std::io::{self, Read, Write};

use crate::{Control, Light, Observation, Status, World};

pub const VERSION: u16 = 1;
pub const OBSERVATION_MAGIC: u32 = u32::from_le_bytes(*b"SWBO");
pub const OBSERVATION_BYTES: usize = 80;
pub const CONTROL_MAGIC: u32 = u32::from_le_bytes(*b"SWBC");
pub const CONTROL_BYTES: usize = 32;
pub const FLAG_NIGHT: u32 = 1;
pub const FLAG_OVER: u32 = 2;
pub const FLAG_END_RUN: u32 = 1;

/// How pixels are delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum PixelFormat {
    Rgb8 = 0,
    Nv12 = 1,
}

/// The driver's answer as it travels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ControlMessage {
    pub sequence: u64,
    pub control: Control,
    pub flags: u32,
    pub mark: u32,
}

impl ControlMessage {
    pub fn to_bytes(&self) -> [u8; CONTROL_BYTES] {
        let mut out = [0; CONTROL_BYTES];
        out[0..4].copy_from_slice(&CONTROL_MAGIC.to_le_bytes());
        out[4..6].copy_from_slice(&VERSION.to_le_bytes());
        out[6..8].copy_from_slice(&(CONTROL_BYTES as u16).to_le_bytes());
        out[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        out[16..20].copy_from_slice(&(self.control.curvature_1_m as f32).to_le_bytes());
        out[20..24].copy_from_slice(&(self.control.acceleration_mps2 as f32).to_le_bytes());
        out[24..28].copy_from_slice(&self.flags.to_le_bytes());
        out[28..32].copy_from_slice(&self.mark.to_le_bytes());
        out
    }

    pub fn from_bytes(bytes: &[u8; CONTROL_BYTES]) -> io::Result<Self> {
        let fields = Fields(bytes);
        let found = (fields.u32_at(0), fields.u16_at(4), usize::from(fields.u16_at(6)));
        if found != (CONTROL_MAGIC, VERSION, CONTROL_BYTES) {
            return Err(invalid(format!("not a control message: magic, version, bytes are {found:x?}")));
        }
        let (curvature_1_m, acceleration_mps2) = (f64::from(fields.f32_at(16)), f64::from(fields.f32_at(20)));
        Ok(Self {
            sequence: fields.u64_at(8),
            control: Control { curvature_1_m, acceleration_mps2 },
            flags: fields.u32_at(24),
            mark: fields.u32_at(28),
        })
    }
}

/// An observation's header as it travels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ObservationHeader {
    pub sequence: u64,
    pub time_ns: i64,
    pub width: u32,
    pub height: u32,
    pub pixel_format: u32,
    pub payload_bytes: u32,
    pub route: u32,
    pub flags: u32,
    /// Speed, acceleration, lateral acceleration, yaw rate, road-wheel angle.
    pub ego: [f32; 5],
}

impl ObservationHeader {
    pub fn to_bytes(&self) -> [u8; OBSERVATION_BYTES] {
        let mut out = Vec::with_capacity(OBSERVATION_BYTES);
        out.extend(OBSERVATION_MAGIC.to_le_bytes());
        out.extend(VERSION.to_le_bytes());
        out.extend((OBSERVATION_BYTES as u16).to_le_bytes());
        out.extend(self.sequence.to_le_bytes());
        out.extend(self.time_ns.to_le_bytes());
        for value in [self.width, self.height, self.pixel_format, self.payload_bytes, self.route, self.flags] {
            out.extend(value.to_le_bytes());
        }
        out.extend(self.ego.iter().flat_map(|value| value.to_le_bytes()));
        let mut fixed = [0; OBSERVATION_BYTES];
        fixed[..out.len()].copy_from_slice(&out);
        fixed
    }

    pub fn from_bytes(bytes: &[u8; OBSERVATION_BYTES]) -> io::Result<Self> {
        let fields = Fields(bytes);
        let found = (fields.u32_at(0), fields.u16_at(4), usize::from(fields.u16_at(6)));
        if found != (OBSERVATION_MAGIC, VERSION, OBSERVATION_BYTES) {
            return Err(invalid(format!("not an observation: magic, version, bytes are {found:x?}")));
        }
        Ok(Self {
            sequence: fields.u64_at(8),
            time_ns: fields.u64_at(16) as i64,
            width: fields.u32_at(24),
            height: fields.u32_at(28),
            pixel_format: fields.u32_at(32),
            payload_bytes: fields.u32_at(36),
            route: fields.u32_at(40),
            flags: fields.u32_at(44),
            ego: std::array::from_fn(|index| fields.f32_at(48 + 4 * index)),
        })
    }
}

/// One step as it happened, for the log.
#[derive(Debug, Clone, Copy)]
pub struct LogEntry {
    pub ego: crate::EgoState,
    pub status: Status,
    pub answer: ControlMessage,
}

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// At the destination or in a collision.
    Done,
    /// The driver asked for it or closed the pipe.
    DriverLeft,
}

/// Runs a world against the driver behind the pipes; `each` sees every step before it is taken.
pub fn run(
    world: &mut World,
    format: PixelFormat,
    pipes: (&mut impl Read, &mut impl Write),
    mut each: impl FnMut(&World, &Observation, LogEntry) -> io::Result<()>,
) -> io::Result<Ending> {
    let (input, output) = pipes;
    loop {
        let observation = world.observe();
        let over = world.status().done;
        send(&observation, world.scenario().light, format, over, output)?;
        if over {
            return Ok(Ending::Done);
        }
        let Some(answer) = receive(input)? else { return Ok(Ending::DriverLeft) };
        if answer.sequence != observation.sequence {
            let (got, wanted) = (answer.sequence, observation.sequence);
            return Err(invalid(format!("control answers observation {got}, but {wanted} was asked")));
        }
        each(world, &observation, LogEntry { ego: *world.ego(), status: world.status(), answer })?;
        world.step(answer.control);
        if answer.flags & FLAG_END_RUN != 0 {
            return Ok(Ending::DriverLeft);
        }
    }
}

fn send(observation: &Observation, light: Light, format: PixelFormat, over: bool, output: &mut impl Write) -> io::Result<()> {
    let frame = &observation.frame;
    let nv12;
    let payload: &[u8] = match format {
        _ if over => &[],
        PixelFormat::Rgb8 => &frame.rgb,
        PixelFormat::Nv12 => {
            nv12 = frame.to_nv12();
            &nv12
        }
    };
    let night = if light == Light::Night { FLAG_NIGHT } else { 0 };
    let ego = &observation.ego;
    let lateral = ego.speed_mps * ego.yaw_rate_rad_s();
    let header = ObservationHeader {
        sequence: observation.sequence,
        time_ns: observation.time_ns,
        width: frame.width as u32,
        height: frame.height as u32,
        pixel_format: format as u32,
        payload_bytes: payload.len() as u32,
        route: observation.route as u32,
        flags: night | if over { FLAG_OVER } else { 0 },
        ego: [ego.speed_mps, ego.acceleration_mps2, lateral, ego.yaw_rate_rad_s(), ego.steering_rad()].map(|v| v as f32),
    };
    output.write_all(&header.to_bytes())?;
    output.write_all(payload)?;
    output.flush()
}

/// The next control, or nothing when the driver has closed the pipe between two messages.
fn receive(input: &mut impl Read) -> io::Result<Option<ControlMessage>> {
    let mut bytes = [0; CONTROL_BYTES];
    let first = loop {
        match input.read(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    if first == 0 {
        return Ok(None);
    }
    input.read_exact(&mut bytes[first..])?;
    ControlMessage::from_bytes(&bytes).map(Some)
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Little-endian fields of a message whose length is fixed, so that an offset within it is always in range.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&self, offset: usize) -> [u8; N] {
        std::array::from_fn(|index| self.0[offset + index])
    }

    fn u16_at(&self, offset: usize) -> u16 {
        u16::from_le_bytes(self.array(offset))
    }

    fn u32_at(&self, offset: usize) -> u32 {
        u32::from_le_bytes(self.array(offset))
    }

    fn u64_at(&self, offset: usize) -> u64 {
        u64::from_le_bytes(self.array(offset))
    }

    fn f32_at(&self, offset: usize) -> f32 {
        f32::from_le_bytes(self.array(offset))
    }
}

#[cfg(test)]
mod tests;
