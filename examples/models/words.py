"""The small language of vla-1: one word per position, and the words that the expert would say."""

import numpy as np

SCENES = ["drive", "follow", "halt-for-person", "arrive"]
GAPS = ["close", "near", "midway", "far", "clear"]
BENDS = ["bend-sharp-right", "bend-right", "bend-slight-right", "straight", "bend-slight-left", "bend-left", "bend-sharp-left"]
STEERING = [f"steer-{abs(n)}-{'left' if n > 0 else 'right'}" if n else "steer-0" for n in range(-7, 8)]
TRIM = ["trim-2-right", "trim-1-right", "trim-0", "trim-1-left", "trim-2-left"]
PEDALS = [f"brake-{n}" for n in range(8, 0, -1)] + ["coast"] + [f"throttle-{n}" for n in range(1, 6)]

SENTENCE = [SCENES, GAPS, BENDS, STEERING, TRIM, PEDALS]
LENGTH = len(SENTENCE)
VOCABULARY = [word for choices in SENTENCE for word in choices]
COUNT = len(VOCABULARY)
FIRST = np.cumsum([0] + [len(choices) for choices in SENTENCE])

GAP_EDGES_M = [8.0, 15.0, 26.0, 42.0]
BEND_EDGES = [-0.013, -0.007, -0.002, 0.002, 0.007, 0.013]
# Curvature is spoken on a logarithmic scale: fine near straight ahead, coarse in sharp corrections.
CURVATURE_KNEE, CURVATURE_MAX = 0.006, 0.12
LEVELS = len(STEERING) * len(TRIM)
PEDAL_CENTERS = np.concatenate([np.linspace(-4.0, -0.4, 8), [0.0], np.linspace(0.28, 1.4, 5)])

# Words that do not belong at a position get no chance there.
MASK = np.full((LENGTH, COUNT), -1e4, np.float32)
for _position in range(LENGTH):
    MASK[_position, FIRST[_position]:FIRST[_position + 1]] = 0.0


def of(intent, gap, preview, control) -> np.ndarray:
    """The sentences for expert answers, as word numbers [N, LENGTH]."""
    squeezed = np.log1p(np.abs(control[:, 0]) / CURVATURE_KNEE) / np.log1p(CURVATURE_MAX / CURVATURE_KNEE)
    level = np.rint(np.sign(control[:, 0]) * squeezed * (LEVELS - 1) / 2 + (LEVELS - 1) / 2).astype(int)
    pedal = np.abs(control[:, 1:2] - PEDAL_CENTERS).argmin(axis=1)
    choices = [
        intent.astype(int), np.digitize(gap, GAP_EDGES_M), np.digitize(preview, BEND_EDGES), level // len(TRIM), level % len(TRIM), pedal
    ]
    return np.stack(choices, axis=1) + FIRST[:-1]
