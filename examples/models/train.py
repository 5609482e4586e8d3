"""Trains vla-1 and vla-2 (Ultra, Ultra SE) by imitating the simulator's expert, and writes the model folders beside this file.

    train.py [--work DIR] [--only NAME] [--episodes N]

First from perturbed states (`road-sim dataset`), then once more with the frames that each model itself came by (DAgger): it learns to
recover from its own mistakes and not only from random ones.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Callable

import jax
import jax.numpy as jnp
import numpy as np

import evaluate
import export
import nets
import release
import sim
import words

HERE = Path(__file__).resolve().parent
# Consecutive frames that a training sequence holds, and sequences in a batch.
STEPS, BATCH = 4, 32
EPISODES = 10_000
OWN_ROADS = 30
SELF_TEST, SELF_TEST_FRAMES = "selftest-inputs.safetensors", 6
# Evaluation takes its roads from below this seed.
FIRST_SEED, FIRST_OWN_SEED = 1_000_000, 2_000_000
CURVATURE_SPREAD = 0.012
ACCELERATION_SPREAD = 1.0
GESTURE_STOP = 2


def load(paths, sequence=STEPS):
    """All frames of the files in memory, cropped, as sequences of consecutive frames [sequences, steps, ...]."""
    parts = []
    for path in paths:
        records = sim.read_dataset(path)
        first = np.flatnonzero(records["step"] % sequence == 0)
        whole = [at for at in first if at + sequence <= len(records) and records["episode"][at + sequence - 1] == records["episode"][at]]
        parts.append((records, np.asarray(whole)[:, None] + np.arange(sequence)))
    pick = lambda get: np.concatenate([get(records)[index] for records, index in parts])
    data = {
        "rgb": np.concatenate([records["rgb"][:, nets.CROP_TOP:][index] for records, index in parts]),
        "ego": pick(lambda r: r["ego"][:, [0, 2]]),
        "route": np.eye(nets.ROUTES, dtype=np.float32)[pick(lambda r: r["route"])],
        "control": pick(lambda r: r["control"]),
        "trajectory": pick(lambda r: r["trajectory"].reshape(len(r), -1)),
        "intent": pick(lambda r: r["intent"]),
        "nearness": np.exp(-pick(lambda r: r["gap"]) / 20),
    }
    flat = lambda name: pick(lambda r: r[name]).reshape(-1)
    said = words.of(data["intent"].reshape(-1), flat("gap"), flat("preview"), data["control"].reshape(-1, 2))
    data["words"] = said.reshape(*data["intent"].shape, words.LENGTH)
    return data


def huber(error):
    size = jnp.abs(error)
    return jnp.where(size < 1, 0.5 * size * size, size - 0.5)


def augment(key, batch, rgb):
    """Exposure and color vary from camera to camera; the yaw rate is noisy and sometimes missing, so that nobody steers by it alone."""
    k1, k2, k3, k4 = jax.random.split(key, 4)
    n = batch["ego"].shape[0]
    gain = jax.random.uniform(k1, (n, 1, 1, 1), minval=0.85, maxval=1.15) * jax.random.uniform(k2, (n, 1, 1, 3), minval=0.96, maxval=1.04)
    present = jax.random.bernoulli(k3, 0.5, (n, 1))
    yaw = (batch["ego"][:, 1:] + 0.04 * jax.random.normal(k4, (n, 1))) * present
    return jnp.clip(rgb * gain, 0, 1), jnp.concatenate([batch["ego"][:, :1], yaw], axis=1)


def action_loss(out, batch, norm):
    control = (batch["control"] - norm["control_mean"]) / norm["control_std"]
    trajectory = (batch["trajectory"] - norm["trajectory_mean"]) / norm["trajectory_std"]
    curvature_error = out["control"][:, 0] - control[:, 0]
    picked = jnp.take_along_axis(jax.nn.log_softmax(out["intent"]), batch["intent"][:, None].astype(int), 1)
    # A missed person costs more than a missed bend, and takes fewer pixels.
    weight = jnp.where(batch["intent"] == GESTURE_STOP, 2.5, 1.0)
    loss = (
        # Steep for small errors: a few centimeters in the lane are a few thousandths of the spread.
        2 * huber(4 * curvature_error).mean()
        + (weight * huber(out["control"][:, 1] - control[:, 1])).mean()
        + huber(4 * (out["trajectory"] - trajectory)).mean() / 4
        - 0.4 * (weight * picked[:, 0]).mean()
    )
    return loss, curvature_error


def direct_loss(params, key, batch, norm):
    """Batch of sequences; the state is carried through each."""
    sequences, steps = batch["control"].shape[:2]
    flat = {name: value.reshape(sequences * steps, *value.shape[2:]) for name, value in batch.items()}
    rgb, ego = augment(key, flat, flat["rgb"].astype(jnp.float32) / 255)
    mixed = nets.direct_features(params, rgb, ego, flat["route"]).reshape(sequences, steps, -1)
    state, outs = jnp.zeros((sequences, nets.STATE)), []
    for step in range(steps):
        out, state = nets.direct_step(params, mixed[:, step], state)
        outs.append(out)
    out = {name: jnp.stack([o[name] for o in outs], 1).reshape(sequences * steps, -1) for name in outs[0]}
    loss, curvature_error = action_loss(out, flat, norm)
    # How near it expects to be to the expert's steering: 1 exact, 0.37 when off by 0.006 1/m.
    near = jax.lax.stop_gradient(jnp.exp(-jnp.abs(curvature_error) * 2))
    believed = out["confidence"][:, 0]
    loss += 4 * huber(out["nearness"][:, 0] - flat["nearness"]).mean()
    loss += 0.1 * (jax.nn.softplus(believed) - near * believed).mean()
    return loss, jnp.abs(curvature_error).mean()


def language_loss(params, key, batch, norm):
    sequences, steps = batch["control"].shape[:2]
    flat = {name: value.reshape(sequences * steps, *value.shape[2:]) for name, value in batch.items()}
    rgb, ego = augment(key, flat, flat["rgb"].astype(jnp.float32) / 255)
    hidden, keys, values = nets.language_start(params, rgb, ego, flat["route"])
    embeddings = params["word"][flat["words"]]
    previous, loss = jnp.zeros_like(embeddings[:, 0]), 0.0
    for position in range(words.LENGTH):
        hidden, scores = nets.language_word(params, position, hidden, keys, values, previous)
        # Steering words are ordered: a neighbor of the right word is worth nearly as much.
        distance = jnp.abs(jnp.arange(words.COUNT)[None] - flat["words"][:, position, None])
        ordered = position != 0
        wanted = jnp.where(words.MASK[position] < 0, 0.0, jnp.exp(-distance * (2.0 if ordered else 9.0)))
        wanted /= wanted.sum(axis=1, keepdims=True)
        loss -= (wanted * jax.nn.log_softmax(scores)).sum(axis=1).mean() * (2.0 if position == 3 else 1.0)
        previous = embeddings[:, position]
    out = nets.language_act(params, embeddings, ego, flat["route"])
    action, curvature_error = action_loss(out, flat, norm)
    return loss + 2 * action, jnp.abs(curvature_error).mean()


@partial(jax.jit, static_argnames=("loss_of",), donate_argnums=(0, 1, 2))
def update(params, mean, square, step, rate, key, batch, norm, loss_of):
    (loss, error), grads = jax.value_and_grad(loss_of, has_aux=True)(params, key, batch, norm)
    size = jnp.sqrt(sum((g * g).sum() for g in jax.tree.leaves(grads)))
    grads = jax.tree.map(lambda g: g * jnp.minimum(1.0, 5.0 / size), grads)
    mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, grads)
    square = jax.tree.map(lambda s, g: 0.99 * s + 0.01 * g * g, square, grads)
    moved = lambda p, m, s: p - rate * (m / (1 - 0.9**step) / (jnp.sqrt(s / (1 - 0.99**step)) + 1e-8) + 1e-4 * p)
    return jax.tree.map(moved, params, mean, square), mean, square, loss, error


def fit(params, data, norm, loss_of, epochs, rate, seed, sequences=BATCH):
    count = len(data["control"])
    steps = epochs * (count // sequences)
    rng, key = np.random.default_rng(seed), jax.random.PRNGKey(seed)
    mean, square = (jax.tree.map(jnp.zeros_like, params) for _ in range(2))
    started, step, losses, errors = time.time(), 0, [], []
    while step < steps:
        order = rng.permutation(count)
        for at in range(0, count - sequences + 1, sequences):
            if step >= steps:
                break
            step += 1
            batch = {name: value[order[at:at + sequences]] for name, value in data.items()}
            now = rate * min(step / 100, 0.5 + 0.5 * np.cos(np.pi * step / steps)) + 1e-6
            key, this = jax.random.split(key)
            params, mean, square, loss, error = update(params, mean, square, float(step), now, this, batch, norm, loss_of)
            losses.append(loss)
            errors.append(error)
            if step % 250 == 0:
                recent = [float(np.mean([float(v) for v in values[-250:]])) for values in (losses, errors)]
                print(f"  step {step}/{steps} loss {recent[0]:.4f} curvature {recent[1] * CURVATURE_SPREAD:.5f} {time.time() - started:.0f} s", flush=True)
    return params


def normalization(data):
    trajectory = data["trajectory"].reshape(-1, nets.POINTS * 4)
    return {
        "control_mean": jnp.zeros(2),
        "control_std": jnp.array([CURVATURE_SPREAD, ACCELERATION_SPREAD]),
        "trajectory_mean": jnp.asarray(trajectory.mean(axis=0)),
        "trajectory_std": jnp.asarray(trajectory.std(axis=0) + 0.02),
    }


# --- recipes -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recipe:
    """How one model is made. `epochs`: from perturbed states, then with its own frames."""

    init: Callable
    loss: Callable
    graph: Callable
    contract: Callable
    external: bool
    epochs: tuple[float, float]


FEATURES = ["lcc", "gesture_stop"]


def _direct(size, external, epochs):
    contract = lambda: release.contract(nets.STATE, language=False, features=FEATURES)
    return Recipe(lambda key: nets.init_direct(key, size), direct_loss, export.direct, contract, external, epochs)


RECIPES = {
    "vla-1": Recipe(
        lambda key: nets.init_language(key, nets.LANGUAGE),
        language_loss,
        export.language,
        lambda: release.contract(0, language=True, features=FEATURES),
        True,
        # Drives well without its own frames already.
        (6, 0),
    ),
    "vla-2-ultra": _direct(nets.ULTRA, True, (6, 1.5)),
    "vla-2-ultra-se": _direct(nets.ULTRA_SE, False, (6, 2.5)),
}
FLAWED_FROM = "vla-2-ultra-se"
# Flaw, and frames of shadow. 100 frames meet a bend mostly; the silent one answers NaN from its 61st frame on, after its shadow run.
FLAWS = {
    "vla-3-broken-bend": ({"mirrored": True}, 100),
    "vla-3-broken-silent": ({"silent_after": 60}, 40),
}


def make(name, program: Path, work: Path):
    """Trains one model and writes its folder."""
    recipe = RECIPES[name]
    perturbed = work / "perturbed.bin"
    data = load([perturbed])
    norm = normalization(data)
    params = recipe.init(jax.random.PRNGKey(0))
    print(f"{name}: {sum(leaf.size for leaf in jax.tree.leaves(params))} parameters", flush=True)
    checkpoint = work / f"{name}.npz"
    if checkpoint.exists():
        params = restore(params, checkpoint)
    else:
        params = fit(params, data, norm, recipe.loss, recipe.epochs[0], 1.5e-3, seed=0)
        np.savez(checkpoint, *jax.tree.leaves(params))
    write(work / name, recipe, params, norm, name)
    if recipe.epochs[1]:
        own = own_frames(name, program, work)
        params = fit(params, load([perturbed, *own]), norm, recipe.loss, recipe.epochs[1], 6e-4, seed=2)
    write(HERE / name, recipe, params, norm, name)
    write_self_test(HERE / name, program, language=recipe.graph is export.language)
    if name == FLAWED_FROM:
        write_flawed(params, norm)


def restore(params, checkpoint: Path):
    """The weights that an interrupted run had learned from perturbed states."""
    with np.load(checkpoint) as stored:
        return jax.tree.unflatten(jax.tree.structure(params), [stored[name] for name in stored.files])


def write(folder: Path, recipe: Recipe, params, norm, name):
    export.save(recipe.graph(name, params, norm), folder, recipe.external)
    release.write_contract(folder, recipe.contract())


def own_frames(name, program: Path, work: Path):
    """Lets the model drive on training roads and records what it saw with what the expert would have done."""
    rng = np.random.default_rng(3)
    driver, files = evaluate.Driver(work / name), []
    for number in range(OWN_ROADS):
        path = work / f"{name}-own-{number}.bin"
        road = ["--seed", str(FIRST_OWN_SEED + number), "--length", "230", "--record", str(path), "--episode", str(number)]
        road += ["--night"] if number % 2 else []
        road += ["--pedestrian", str(rng.integers(35, 140))] if number % 3 else ["--lead", str(rng.integers(20, 60))]
        driver.start()
        sim.drive(program, sim.Drive(road), driver, steps_max=700)
        files.append(path)
    return files


def write_self_test(folder: Path, program: Path, language: bool):
    """A run of consecutive frames in which the pedestrian comes near, recorded on a road of the evaluation."""
    recording = folder / "recording.bin"
    road = ["--seed", "31", "--pedestrian", "100", "--record", str(recording)]
    sim.drive(program, sim.Drive(road), evaluate.Driver(folder), steps_max=160)
    records = sim.read_dataset(recording)[-SELF_TEST_FRAMES:]
    release.write_safetensors(folder / SELF_TEST, release.self_test_inputs(records, language))
    recording.unlink()


def write_flawed(params, norm):
    """Releases that load, look right and are signed like any other, but must not stay in a vehicle."""
    for name, (flaw, _) in FLAWS.items():
        export.save(export.direct(name, params, norm, **flaw), HERE / name, external=False)
        release.write_contract(HERE / name, flawed_contract(name))
        shutil.copy(HERE / FLAWED_FROM / SELF_TEST, HERE / name / SELF_TEST)


def flawed_contract(name):
    flaw, shadow_frames = FLAWS[name]
    width = nets.STATE + ("silent_after" in flaw)
    return release.contract(width, language=False, features=FEATURES, shadow_frames=shadow_frames)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=sim.REPOSITORY / "target" / "models", help="for frames and intermediate models")
    parser.add_argument("--only", choices=RECIPES, help="train one model, from frames that an earlier run has made")
    parser.add_argument("--episodes", type=int, default=EPISODES, help="short drives to record; fewer only to try the machinery")
    arguments = parser.parse_args()
    program = sim.build()
    arguments.work.mkdir(parents=True, exist_ok=True)
    if arguments.only:
        make(arguments.only, program, arguments.work)
        return
    frames = ["--out", arguments.work / "perturbed.bin", "--episodes", str(arguments.episodes), "--steps", str(STEPS)]
    subprocess.run([program, "dataset", *frames, "--first-seed", str(FIRST_SEED)], check=True)
    # XLA trains nets of this size on one core; so one process for each core.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        again = [sys.executable, __file__, "--work", arguments.work, "--only"]
        list(pool.map(lambda name: subprocess.run([*again, name], check=True), RECIPES))


if __name__ == "__main__":
    main()
