"""The two networks in JAX. `export.py` writes the same arithmetic as ONNX graphs; `train.py` checks that both agree.

vla-2: pixels -> convolutions -> a little recurrent state -> trajectory and control.
vla-1: pixels -> convolutions -> words, one after the other, each seeing the ones before -> trajectory and control from the words
alone (and our own motion). The words are coarser than the pixels; that is the bottleneck which vla-2 does away with.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

import words

HEIGHT, WIDTH = 64, 128
# Above this row there is only sky.
CROP_TOP = 16
POINTS = 20
INTENTS = 4
EGO = 2  # speed, yaw rate
ROUTES = 4
STATE = 16
# The recurrent state forgets at least this much per step: it reaches its steady course within a second whatever it started from.
KEEP_MAX = 0.8


@dataclass(frozen=True)
class Size:
    """Channels of the four stride-two convolutions (the last may keep the resolution), and widths of the dense layers."""

    channels: tuple[int, int, int, int]
    features: int
    hidden: int


ULTRA = Size((16, 32, 48, 64), 128, 128)
ULTRA_SE = Size((10, 16, 24, 32), 64, 64)
LANGUAGE = Size((16, 32, 56, 80), 160, 128)
KERNELS = (5, 3, 3, 3)
GRID = (CROP_TOP * 3 // 16, WIDTH // 16)  # 3 x 8 cells after four halvings of 48 x 128


def _dense(key, inputs, outputs, gain=1.0):
    weight = jax.random.normal(key, (inputs, outputs)) * gain / np.sqrt(inputs)
    return {"w": weight, "b": jnp.zeros(outputs)}


def _linear(layer, x):
    return x @ layer["w"] + layer["b"]


def init_encoder(key, size: Size):
    keys = jax.random.split(key, 5)
    encoder, inputs = {}, 3
    for index, (channels, kernel) in enumerate(zip(size.channels, KERNELS)):
        weight = jax.random.normal(keys[index], (kernel, kernel, inputs, channels)) * np.sqrt(2 / (kernel * kernel * inputs))
        encoder[f"conv{index}"] = {"w": weight, "b": jnp.zeros(channels)}
        inputs = channels
    encoder["flat"] = _dense(keys[4], GRID[0] * GRID[1] * inputs, size.features, np.sqrt(2))
    return encoder


def encode(encoder, rgb):
    """`rgb`: float 0..1, [N, 48, 128, 3], cropped. Returns the grid of cells and the flat features."""
    # The square root lifts the dark half of the scale, where the night is.
    x = jnp.sqrt(rgb) - 0.5
    for index, kernel in enumerate(KERNELS):
        layer, pad = encoder[f"conv{index}"], kernel // 2
        x = jax.lax.conv_general_dilated(
            x, layer["w"], (2, 2), ((pad, pad), (pad, pad)), dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = jax.nn.relu(x + layer["b"])
    return x, jax.nn.relu(_linear(encoder["flat"], x.reshape(x.shape[0], -1)))


def scale_ego(ego):
    return ego * jnp.array([0.1, 2.0])


# --- vla-2 ---------------------------------------------------------------------------------------------------------------------


def init_direct(key, size: Size):
    keys = jax.random.split(key, 10)
    joined = size.hidden + STATE
    return {
        "encoder": init_encoder(keys[0], size),
        "mix": _dense(keys[1], size.features + EGO + ROUTES, size.hidden, np.sqrt(2)),
        "gate": _dense(keys[2], size.hidden, STATE),
        "content": _dense(keys[3], size.hidden, STATE),
        "head": _dense(keys[4], joined, size.hidden, np.sqrt(2)),
        "control": _dense(keys[5], size.hidden, 2, 0.3),
        "trajectory": _dense(keys[6], size.hidden, POINTS * 4, 0.3),
        "confidence": _dense(keys[7], size.hidden, 1, 0.3),
        "intent": _dense(keys[8], size.hidden, INTENTS, 0.3),
        "nearness": _dense(keys[9], size.hidden, 1, 0.3),
    }


def direct_features(params, rgb, ego, route):
    _, flat = encode(params["encoder"], rgb)
    return jax.nn.relu(_linear(params["mix"], jnp.concatenate([flat, scale_ego(ego), route], axis=1)))


def direct_step(params, mixed, state):
    """One step of the recurrent part. Control and trajectory are in units of their spread (`train.py` folds it in)."""
    keep = KEEP_MAX * jax.nn.sigmoid(_linear(params["gate"], mixed))
    state = keep * state + (1 - keep) * jnp.tanh(_linear(params["content"], mixed))
    head = jax.nn.relu(_linear(params["head"], jnp.concatenate([mixed, state], axis=1)))
    return {
        "control": _linear(params["control"], head),
        "trajectory": _linear(params["trajectory"], head),
        "confidence": _linear(params["confidence"], head),
        "intent": _linear(params["intent"], head),
        # How near what we brake for is. Only training asks for it: it makes the features look for people and cars.
        "nearness": _linear(params["nearness"], head),
    }, state


# --- vla-1 ---------------------------------------------------------------------------------------------------------------------

EMBEDDING = 32
ATTENTION = 48
ACTION = 160


def init_language(key, size: Size):
    keys = jax.random.split(key, 16)
    cells = size.channels[-1]
    return {
        "encoder": init_encoder(keys[0], size),
        "place": jax.random.normal(keys[1], (GRID[0] * GRID[1], ATTENTION)) * 0.1,
        "key": _dense(keys[2], cells, ATTENTION),
        "value": _dense(keys[3], cells, ATTENTION),
        "query": _dense(keys[4], size.hidden, ATTENTION),
        "start": _dense(keys[5], size.features + EGO + ROUTES, size.hidden),
        "word": jax.random.normal(keys[6], (words.COUNT, EMBEDDING)) * 0.3,
        "begin": jnp.zeros((words.LENGTH, EMBEDDING)),
        "hear": _dense(keys[7], EMBEDDING + ATTENTION + size.hidden, size.hidden, np.sqrt(2)),
        "keep": _dense(keys[8], EMBEDDING + ATTENTION + size.hidden, size.hidden),
        "say": _dense(keys[9], size.hidden, words.COUNT),
        "act0": _dense(keys[10], words.LENGTH * EMBEDDING + EGO + ROUTES, ACTION, np.sqrt(2)),
        "act1": _dense(keys[11], ACTION, ACTION, np.sqrt(2)),
        "control": _dense(keys[12], ACTION + words.LENGTH * EMBEDDING, 2, 0.3),
        "trajectory": _dense(keys[13], ACTION + words.LENGTH * EMBEDDING, POINTS * 4, 0.3),
        "intent": _dense(keys[14], ACTION, INTENTS, 0.3),
    }


def language_start(params, rgb, ego, route):
    grid, flat = encode(params["encoder"], rgb)
    cells = grid.reshape(grid.shape[0], -1, grid.shape[-1])
    keys = _linear(params["key"], cells) + params["place"]
    values = _linear(params["value"], cells)
    hidden = jnp.tanh(_linear(params["start"], jnp.concatenate([flat, scale_ego(ego), route], axis=1)))
    return hidden, keys, values


def language_word(params, position, hidden, keys, values, previous):
    """The scores of the next word. `previous`: embedding of the word before."""
    query = _linear(params["query"], hidden)
    weights = jax.nn.softmax(jnp.einsum("na,nca->nc", query, keys) / np.sqrt(ATTENTION))
    looked = jnp.einsum("nc,nca->na", weights, values)
    heard = jnp.concatenate([previous + params["begin"][position], looked, hidden], axis=1)
    keep = jax.nn.sigmoid(_linear(params["keep"], heard))
    hidden = keep * hidden + (1 - keep) * jnp.tanh(_linear(params["hear"], heard))
    return hidden, _linear(params["say"], hidden) + words.MASK[position]


def language_act(params, embeddings, ego, route):
    """Control and trajectory from the words and our own motion; no pixel gets past the words."""
    flat = embeddings.reshape(embeddings.shape[0], -1)
    hidden = jax.nn.relu(_linear(params["act0"], jnp.concatenate([flat, scale_ego(ego), route], axis=1)))
    hidden = jax.nn.relu(_linear(params["act1"], hidden))
    both = jnp.concatenate([hidden, flat], axis=1)
    return {
        "control": _linear(params["control"], both),
        "trajectory": _linear(params["trajectory"], both),
        "intent": _linear(params["intent"], hidden),
    }


def language_speak(params, rgb, ego, route):
    """Greedy decoding. Returns the words and the action."""
    hidden, keys, values = language_start(params, rgb, ego, route)
    previous = jnp.zeros((rgb.shape[0], EMBEDDING))
    said, sure, embeddings = [], [], []
    for position in range(words.LENGTH):
        hidden, scores = language_word(params, position, hidden, keys, values, previous)
        word = jnp.argmax(scores, axis=1)
        previous = params["word"][word]
        said.append(word)
        sure.append(jax.nn.softmax(scores).max(axis=1))
        embeddings.append(previous)
    action = language_act(params, jnp.stack(embeddings, axis=1), ego, route)
    return jnp.stack(said, axis=1), jnp.stack(sure, axis=1).mean(axis=1, keepdims=True), action
