"""What stands beside a model's weights: its contract, and the recorded inputs of its self-test."""

import json
import struct
from pathlib import Path

import numpy as np

import nets
import words

INTENTS = ["keep_lane", "follow", "gesture_stop", "standstill"]


def contract(recurrent_width, language: bool, features, shadow_frames=40, trial_frames=200):
    """The contract as `signing/src/bundle/contract.rs` reads it."""
    camera_shape = [1, nets.HEIGHT, nets.WIDTH, 3] if language else [1, 3, nets.HEIGHT, nets.WIDTH]
    camera = {"camera_id": 0, "layout": "nhwc" if language else "nchw", "color": "rgb"}
    tensor = lambda name, dtype, shape, **rest: {"tensor": name, "dtype": dtype, "shape": shape, **rest}
    outputs = [
        tensor("trajectory", "f32", [1, nets.POINTS, 4], meaning={
            "trajectory": {"step_s": 0.1, "fields": ["x_m", "y_m", "heading_rad", "speed_mps"]}}),
        tensor("control", "f32", [1, 2], meaning={"control": {"fields": ["curvature_1pm", "acceleration_mps2"]}}),
        tensor("confidence", "f32", [1, 1], meaning="confidence"),
        tensor("intent", "f32", [1, nets.INTENTS], meaning={"intent": {"classes": INTENTS}}),
    ]
    if language:
        outputs.append(tensor("words", "i64", [1, words.LENGTH], meaning={"language": {"vocabulary": words.VOCABULARY}}))
    recurrent = [{"input": "state_in", "output": "state_out", "dtype": "f32", "shape": [1, recurrent_width]}]
    return {
        "contract_version": 1,
        "platform": "road_vehicle",
        "inputs": [
            tensor("camera_front", "u8", camera_shape, source={"camera": camera}),
            tensor("ego", "f32", [1, nets.EGO], source={"ego": {"fields": ["speed_mps", "yaw_rate_radps"]}}),
            tensor("route", "f32", [1, nets.ROUTES], source={"route": {"fields": ["follow", "left", "right", "stop"]}}),
        ],
        "outputs": outputs,
        "recurrent": recurrent if recurrent_width else [],
        "features": features,
        "runtime": {"onnxruntime_min": "1.23"},
        "memory_mib": 64,
        "deadline_ms": 45,
        "step_ms": 50,
        "envelope": {
            "acceleration_max_mps2": 2.5,
            "deceleration_max_mps2": 5.0,
            "lateral_acceleration_max_mps2": 5.0,
            "curvature_max_1pm": 0.15,
            # Of what is asked for, between two steps, before any actuator smooths it. Words change by whole steps of the pedal.
            "jerk_max_mps3": 120.0 if language else 80.0,
            "speed_max_mps": 16.0,
        },
        "confidence_min": 0.1,
        "acceptance": {
            "tolerance": {"trajectory": 0.02, "words": 0.0} if language else {"trajectory": 0.02},
            "default_tolerance": 0.002,
            "shadow_frames": shadow_frames,
            # Sound models differ by up to 0.37 m on the roads of the evaluation.
            "shadow_lateral_max_m": 0.5,
            "trial_frames": trial_frames,
        },
    }


def write_contract(folder: Path, value):
    (folder / "contract.json").write_text(json.dumps(value, indent=2) + "\n")


def write_safetensors(path: Path, tensors: dict):
    """The safetensors format: length of the header, header as JSON padded to 8 bytes, then the tensors one after the other."""
    kinds = {"uint8": "U8", "float32": "F32", "int64": "I64"}
    header, at = {}, 0
    # Wide elements first, so that every tensor is aligned to its element.
    for name, value in sorted(tensors.items(), key=lambda item: (-item[1].itemsize, item[0])):
        header[name] = {"dtype": kinds[str(value.dtype)], "shape": list(value.shape), "data_offsets": [at, at + value.nbytes]}
        at += value.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in header:
            file.write(np.ascontiguousarray(tensors[name]).tobytes())


def self_test_inputs(records, language: bool):
    """Recorded frames as `<case>/<tensor>`; cases run in order and the recurrent state is carried from one to the next."""
    tensors = {}
    for case, record in enumerate(records):
        frame = record["rgb"] if language else record["rgb"].transpose(2, 0, 1)
        tensors[f"{case}/camera_front"] = np.ascontiguousarray(frame[None])
        tensors[f"{case}/ego"] = record["ego"][None, [0, 2]].astype(np.float32)
        tensors[f"{case}/route"] = np.eye(nets.ROUTES, dtype=np.float32)[record["route"]][None]
    return tensors
