#![allow(clippy::unwrap_used)]

use super::*;
use crate::Scenario;

fn answer(sequence: u64, flags: u32) -> ControlMessage {
    ControlMessage { sequence, control: Control { curvature_1_m: 0.25, acceleration_mps2: -1.5 }, flags, mark: 9 }
}

fn small_world() -> World {
    World::new(Scenario { width: 32, height: 16, ..Scenario::new(3) })
}

fn drive(answers: &[ControlMessage], format: PixelFormat) -> (io::Result<Ending>, Vec<u8>, usize) {
    let input: Vec<u8> = answers.iter().flat_map(ControlMessage::to_bytes).collect();
    let (mut output, mut steps) = (Vec::new(), 0);
    let mut world = small_world();
    let ending = run(&mut world, format, (&mut &input[..], &mut output), |_, _, _| {
        steps += 1;
        Ok(())
    });
    (ending, output, steps)
}

#[test]
fn a_control_survives_the_journey() {
    let message = answer(77, FLAG_END_RUN);
    assert_eq!(ControlMessage::from_bytes(&message.to_bytes()).unwrap(), message);
}

#[test]
fn observations_carry_the_header_and_the_pixels_of_the_world() {
    for (format, payload) in [(PixelFormat::Rgb8, 32 * 16 * 3), (PixelFormat::Nv12, 32 * 16 * 3 / 2)] {
        let (ending, output, steps) = drive(&[answer(0, 0), answer(1, 0)], format);
        assert_eq!((ending.unwrap(), steps), (Ending::DriverLeft, 2));
        assert_eq!(output.len(), 3 * (OBSERVATION_BYTES + payload));
        let header = ObservationHeader::from_bytes(output[..OBSERVATION_BYTES].try_into().unwrap()).unwrap();
        assert_eq!((header.sequence, header.width, header.payload_bytes as usize), (0, 32, payload));
        assert_eq!((header.pixel_format, header.route, header.ego[0]), (format as u32, 0, 8.0));
        let second = &output[OBSERVATION_BYTES + payload..][..OBSERVATION_BYTES];
        let header = ObservationHeader::from_bytes(second.try_into().unwrap()).unwrap();
        assert_eq!((header.sequence, header.time_ns), (1, crate::STEP_NS));
    }
}

#[test]
fn the_driver_ends_the_run_when_he_asks() {
    let (ending, _, steps) = drive(&[answer(0, FLAG_END_RUN), answer(1, 0)], PixelFormat::Rgb8);
    assert_eq!((ending.unwrap(), steps), (Ending::DriverLeft, 1));
}

#[test]
fn an_answer_to_another_observation_is_refused() {
    let error = drive(&[answer(4, 0)], PixelFormat::Rgb8).0.unwrap_err();
    assert_eq!(error.to_string(), "control answers observation 4, but 0 was asked");
}

#[test]
fn a_message_that_is_no_control_is_refused() {
    let mut bytes = answer(0, 0).to_bytes();
    bytes[4] = 9;
    let error = ControlMessage::from_bytes(&bytes).unwrap_err();
    assert_eq!(error.to_string(), "not a control message: magic, version, bytes are (43425753, 9, 20)");
}

#[test]
fn a_message_cut_in_the_middle_is_an_error() {
    let bytes = answer(0, 0).to_bytes();
    let mut world = small_world();
    let error = run(&mut world, PixelFormat::Rgb8, (&mut &bytes[..10], &mut Vec::new()), |_, _, _| Ok(())).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}
