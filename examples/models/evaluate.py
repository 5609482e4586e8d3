"""Drives models in closed loop on roads that no training saw, from their ONNX files and the simulator's pixels alone.

    evaluate.py [--program road-sim] MODEL_FOLDER...

A road is passed if every wheel stays in its lane, nobody is hit, the pedestrian is stopped for and left behind, and the destination is
reached. Prints one JSON object per model, and every road to standard error unless --quiet; exits with 1 if a model fails a road.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime

import sim

LENGTH_M = 450
# Steps of a run before its times count.
WARM_UP = 10
# Training takes its roads from seed 1,000,000 on.
ROADS = (
    [["--seed", str(seed)] for seed in (11, 12, 13, 14)]
    + [["--seed", str(seed), "--night"] for seed in (21, 22, 23, 24)]
    + [["--seed", str(seed), "--pedestrian", "170"] for seed in (31, 32)]
    + [["--seed", str(seed), "--pedestrian", "170", "--night"] for seed in (41, 42)]
)


class Driver:
    """A model folder behind the simulator's bridge: tensors are laid out as its contract says."""

    def __init__(self, folder: Path):
        self.contract = json.loads((folder / "contract.json").read_text())
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
        self.names = [output.name for output in self.session.get_outputs()]
        camera, ego, route = (spec["source"] for spec in self.contract["inputs"])
        self.channels_first = camera["camera"]["layout"] == "nchw"
        self.ego = [sim.EGO_FIELDS.index(field) for field in ego["ego"]["fields"]]
        assert route["route"]["fields"] == ["follow", "left", "right", "stop"]
        self.start()

    def start(self):
        self.times_us, self.confidences = [], []
        self.state = {pair["input"]: np.zeros(pair["shape"], np.float32) for pair in self.contract["recurrent"]}

    def step(self, rgb, ego, route):
        frame = rgb.transpose(2, 0, 1) if self.channels_first else rgb
        inputs = {
            "camera_front": np.ascontiguousarray(frame[None]),
            "ego": ego[None, self.ego],
            "route": np.eye(sim.ROUTES, dtype=np.float32)[route][None],
            **self.state,
        }
        started = time.perf_counter_ns()
        outputs = dict(zip(self.names, self.session.run(None, inputs)))
        self.times_us.append((time.perf_counter_ns() - started) / 1000)
        self.state = {pair["input"]: outputs[pair["output"]] for pair in self.contract["recurrent"]}
        return outputs

    def __call__(self, rgb, ego, route):
        outputs = self.step(rgb, ego, route)
        self.confidences.append(float(outputs["confidence"][0, 0]))
        return outputs["control"][0]


def passed(run: sim.Drive) -> bool:
    summary, pedestrian = run.summary, "--pedestrian" in run.arguments
    in_lane = summary["off_lane_steps"] == 0 and not summary["collided"]
    return in_lane and summary["ending"] == "done" and summary["stopped_for_pedestrian"] == pedestrian


def measure(program: Path, folder: Path, verbose: bool) -> dict:
    driver, runs, times, confidences = Driver(folder), [], [], []
    for road in ROADS:
        driver.start()
        run = sim.drive(program, sim.Drive([*road, "--length", str(LENGTH_M)]), driver)
        runs.append(run)
        times += driver.times_us[WARM_UP:]
        confidences += driver.confidences
        if verbose:
            print(f"  {'ok  ' if passed(run) else 'FAIL'} {' '.join(road)}: {json.dumps(run.summary)}", file=sys.stderr, flush=True)
    weight = lambda name: np.average([run.summary[name] for run in runs], weights=[run.summary["steps"] for run in runs])
    lateral_jerk, jerk, jerk_max = comfort(runs)
    return {
        "model": folder.name,
        "passed": sum(map(passed, runs)),
        "roads": len(runs),
        "lane_error_mean_m": round(float(weight("offset_mean_m")), 4),
        "lane_error_max_m": max(run.summary["offset_max_m"] for run in runs),
        "lateral_jerk_rms_mps3": lateral_jerk,
        "jerk_rms_mps3": jerk,
        "jerk_max_mps3": jerk_max,
        "pedestrian_stops": sum(run.summary["stopped_for_pedestrian"] for run in runs),
        "confidence_min": round(min(confidences), 3),
        "step_us_p50": round(float(np.median(times)), 1),
        "step_us_p99": round(float(np.percentile(times, 99)), 1),
        "size_kib": round(sum(file.stat().st_size for file in folder.glob("model.onnx*")) / 1024),
    }


def comfort(runs):
    """Change per second of what is asked for: lateral acceleration, and acceleration (root mean square, and largest)."""
    lateral, along = [], []
    for run in runs:
        controls, speeds = np.array(run.controls), np.array(run.speeds)
        lateral.append(np.diff(controls[:, 0] * speeds**2) / 0.05)
        along.append(np.diff(controls[:, 1]) / 0.05)
    lateral, along = np.concatenate(lateral), np.concatenate(along)
    rms = lambda values: round(float(np.sqrt((values**2).mean())), 3)
    return rms(lateral), rms(along), round(float(np.abs(along).max()), 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--program", type=Path, help="a built road-sim; built if absent")
    parser.add_argument("--quiet", action="store_true")
    arguments = parser.parse_args()
    program = arguments.program or sim.build()
    results = [measure(program, folder, not arguments.quiet) for folder in arguments.folders]
    for result in results:
        print(json.dumps(result), flush=True)
    sys.exit(any(result["passed"] < result["roads"] for result in results))


if __name__ == "__main__":
    main()
