"""The simulator as seen from Python: its datasets, and its bridge."""

import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]
ROUTES = 4
# Field order of the bridge's ego floats.
EGO_FIELDS = ("speed_mps", "acceleration_mps2", "lateral_acceleration_mps2", "yaw_rate_radps", "steering_rad")


def build() -> Path:
    """Builds the simulator and says where its program is."""
    command = ["cargo", "build", "--quiet", "--package", "switchback-road-sim", "--message-format", "json"]
    out = subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE).stdout
    programs = [json.loads(line).get("executable") for line in out.splitlines()]
    return Path(next(path for path in programs if path))


def read_dataset(path: Path) -> np.ndarray:
    """The records of a dataset file, mapped rather than read (format: examples/road-sim/src/dataset.rs)."""
    header = np.fromfile(path, np.uint8, 32)
    if header[:8].tobytes() != b"SWBROAD1":
        raise ValueError(f"{path} is not a road-sim dataset")
    width, height, points, record_bytes = np.frombuffer(header[8:24].tobytes(), "<u4")
    record = np.dtype([
        ("rgb", "u1", (height, width, 3)),
        ("ego", "<f4", (4,)),
        ("control", "<f4", (2,)),
        ("gap", "<f4"),
        ("preview", "<f4"),
        ("trajectory", "<f4", (points, 4)),
        ("offset", "<f4"),
        ("route", "<u4"),
        ("intent", "<u4"),
        ("episode", "<u4"),
        ("step", "<u4"),
    ])
    if record.itemsize != record_bytes:
        raise ValueError(f"{path} has records of {record_bytes} bytes, expected {record.itemsize}")
    return np.memmap(path, record, "r", offset=32)


@dataclass
class Drive:
    """One run of the simulator: its command line without the program, and what came of it."""

    arguments: list[str]
    summary: dict = field(default_factory=dict)
    controls: list = field(default_factory=list)
    speeds: list = field(default_factory=list)


OBSERVATION = np.dtype([
    ("magic", "<u4"), ("version", "<u2"), ("bytes", "<u2"), ("sequence", "<u8"), ("time_ns", "<i8"),
    ("width", "<u4"), ("height", "<u4"), ("format", "<u4"), ("payload", "<u4"), ("route", "<u4"), ("flags", "<u4"),
    ("ego", "<f4", (5,)), ("zero", "u1", (12,)),
])
CONTROL = np.dtype([
    ("magic", "<u4"), ("version", "<u2"), ("bytes", "<u2"), ("sequence", "<u8"),
    ("curvature", "<f4"), ("acceleration", "<f4"), ("flags", "<u4"), ("mark", "<u4"),
])
FLAG_OVER, FLAG_END_RUN = 2, 1


def drive(program: Path, run: Drive, model, steps_max: int = 2400) -> Drive:
    """Drives one run to its end. `model(rgb, ego, route)` answers curvature and acceleration."""
    child = subprocess.Popen(
        [program, "bridge", *run.arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with child:
        for step in range(steps_max):
            seen = np.frombuffer(child.stdout.read(OBSERVATION.itemsize), OBSERVATION)[0]
            if seen["flags"] & FLAG_OVER:
                break
            pixels = np.frombuffer(child.stdout.read(int(seen["payload"])), np.uint8)
            curvature, acceleration = model(pixels.reshape(seen["height"], seen["width"], 3), seen["ego"], seen["route"])
            run.controls.append((curvature, acceleration))
            run.speeds.append(float(seen["ego"][0]))
            answer = np.zeros(1, CONTROL)
            answer["magic"], answer["version"], answer["bytes"] = int.from_bytes(b"SWBC", "little"), 1, 32
            answer["sequence"], answer["curvature"], answer["acceleration"] = seen["sequence"], curvature, acceleration
            answer["flags"] = FLAG_END_RUN if step + 1 == steps_max else 0
            child.stdin.write(answer.tobytes())
            child.stdin.flush()
        child.stdin.close()
        run.summary = json.loads(child.stderr.read())
    return run
