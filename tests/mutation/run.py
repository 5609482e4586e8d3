#!/usr/bin/env python3
"""Switches off one check at a time and asks the attack scenarios to notice.

    python3 tests/mutation/run.py [NAME ...]

mutants.txt beside this file lists the checks. All of them are patched into one copy of the sources, each behind an environment
variable, so that one build serves all runs: target/mutation/ holds the copy and the build. First every scenario must pass with
nothing switched off; then, check by check, the scenarios that the list expects to fail are run until one fails, and all the others
when none does. Each result is a line of the output and of target/mutation/results.txt; the exit code is 1 when a check could be
switched off without any scenario failing.
"""

import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
WORK = TARGET / "mutation"
COPY = WORK / "source"
BUILD = WORK / "build"
SWITCH = "SWITCHBACK_MUTANT"

# Longest wait of a scenario for what will not come while a check is switched off, seconds, and the constants that say so. Where a real
# server and several programs are started, more of it is honest.
PATIENCE_S = 12
PATIENCE = [("sdk/tests/common/mod.rs", "pub(crate) const PATIENCE: Duration = Duration::from_secs(300);", PATIENCE_S),
            ("tests/src/lib.rs", "pub const PATIENCE: Duration = Duration::from_secs(180);", 60)]

# Longest run of the scenarios that should notice, and of all of them, seconds.
SOME_S_MAX, ALL_S_MAX = 240, 1200

# Crates that mutants live in, with the file that the switch is added to.
SWITCHES = {
    "signing/": ("signing/src/lib.rs", """
extern crate std;
/// Whether the check of this name is switched off.
pub fn mutant(name: &str) -> bool {
    static OFF: std::sync::OnceLock<std::string::String> = std::sync::OnceLock::new();
    OFF.get_or_init(|| std::env::var("%s").unwrap_or_default()).split(',').any(|off| off == name)
}
""" % SWITCH),
    "sdk/": ("sdk/src/lib.rs", "\npub(crate) use switchback_signing::mutant;\n"),
    "ota-server/": ("ota-server/src/lib.rs", "\npub(crate) use switchback_signing::mutant;\n"),
}


def mutants():
    """The entries of mutants.txt: a line `[name] what it checks`, then the lines that mutants.txt explains."""
    found = []
    for line in (HERE / "mutants.txt").read_text().splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if head := re.fullmatch(r"\[([a-z0-9-]+)\] (.+)", line):
            found.append({"name": head[1], "what": head[2], "to": ""})
        else:
            key, _, value = line.partition(" ")
            found[-1][key] = value.strip()
    return found


def patch(mutant, sources):
    """Puts the check behind its switch. `to` stands in for it as an expression; `with` replaces its text, MUTANT being the switch."""
    text = sources[mutant["file"]].decode()
    start = text.index(mutant["after"]) if "after" in mutant else 0
    at = text.index(mutant["from"], start)
    switch = f'crate::mutant("{mutant["name"]}")'
    if "with" in mutant:
        changed = mutant["with"].replace("MUTANT", switch)
    else:
        changed = f'{{ if {switch} {{ {mutant["to"]} }} else {{ {mutant["from"]} }} }}'
        # An expression may stand where a statement could begin.
        changed = changed if mutant["from"].endswith(";") else f"({changed})"
    sources[mutant["file"]] = (text[:at] + changed + text[at + len(mutant["from"]):]).encode()


def prepare(all_of_them):
    """Writes the copy, and only what has changed in it since the last time, so that only that is built again."""
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    sources = {name: (ROOT / name).read_bytes() for name in names if (ROOT / name).is_file()}
    # Places are found in the text as it is, so the ones further down come first: a patch moves what follows it.
    for mutant in sorted(all_of_them, key=lambda mutant: -place(mutant, sources)):
        patch(mutant, sources)
    for crate, (name, switch) in SWITCHES.items():
        if any(mutant["file"].startswith(crate) for mutant in all_of_them):
            sources[name] += switch.encode()
    for name, usual, seconds in PATIENCE:
        assert usual.encode() in sources[name], f"{name} has another patience"
        sources[name] = sources[name].replace(usual.encode(), re.sub(r"\d+", str(seconds), usual).encode())
    for name, content in sources.items():
        path = COPY / name
        if not path.is_file() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            path.chmod((ROOT / name).stat().st_mode)
    for path in COPY.rglob("*"):
        if path.is_file() and str(path.relative_to(COPY)) not in sources and "target" not in path.relative_to(COPY).parts:
            path.unlink()
    # ONNX Runtime is fetched once for all copies.
    (COPY / "target").mkdir(exist_ok=True)
    if not (COPY / "target/onnxruntime").exists():
        (COPY / "target/onnxruntime").symlink_to(ROOT / "target/onnxruntime")
    return hashlib.sha256(b"".join(name.encode() + sources[name] for name in sorted(sources))).hexdigest()[:12]


def place(mutant, sources):
    text = sources[mutant["file"]].decode()
    return text.index(mutant["from"], text.index(mutant["after"]) if "after" in mutant else 0)


def build():
    """Builds the scenarios and returns their program. Crates of others that are built for the workspace already are not built again."""
    built = TARGET / "debug"
    if not BUILD.exists() and (built / "deps").is_dir():
        (BUILD / "debug").mkdir(parents=True)
        for folder in (".fingerprint", "build", "deps"):
            own = shutil.ignore_patterns("*switchback*")
            shutil.copytree(built / folder, BUILD / "debug" / folder, copy_function=os.link, ignore=own, symlinks=True)
    command = ["cargo", "test", "-q", "-p", "switchback-tests", "--test", "all", "--no-run", "--message-format=json-render-diagnostics"]
    environment = {**os.environ, "CARGO_TARGET_DIR": str(BUILD)}
    done = subprocess.run(command, cwd=COPY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"the scenarios do not build:\n{done.stderr[-8000:]}")
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    return next(message["executable"] for message in messages if message.get("executable") and message["target"]["name"] == "all")


def run(program, filters, off=None, seconds_max=None, more=()):
    """Runs scenarios until one fails. Returns its name, or how else the run ended before its end, or None; and how many ran."""
    # What cargo would say, which is not there any more.
    runtime = str(COPY / "target/onnxruntime/libonnxruntime.so.1")
    environment = {"ORT_DYLIB_PATH": runtime, **os.environ, "CARGO_TARGET_DIR": str(BUILD)}
    environment.pop(SWITCH, None)
    if off:
        environment[SWITCH] = off
    with subprocess.Popen([program, *filters, *more], cwd=COPY / "tests", env=environment, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True, process_group=0) as child:
        end = lambda: child.poll() is None and os.killpg(child.pid, signal.SIGKILL)
        late = threading.Event()
        watch = threading.Timer(seconds_max or ALL_S_MAX, lambda: (late.set(), end()))
        watch.start()
        failed, count, finished = None, 0, False
        for line in child.stdout:
            if result := re.match(r"test (attacks::\S+) .*(ok|FAILED)$", line):
                count += 1
                if result[2] == "FAILED":
                    failed = result[1]
                    break
            finished = finished or line.startswith("test result: ok")
        end()
        watch.cancel()
    # A check whose absence leads round in circles, or beyond all memory, is missed as well.
    if not failed and not finished:
        failed = "attacks::scenarios that never end" if late.is_set() else "attacks::a scenario that ends the program"
    return failed, count


def everything_passes(program):
    """Runs every scenario with nothing switched off; returns how many there are."""
    # What only took too long on a machine that does other things as well is not held against it.
    for _ in range(3):
        failed, count = run(program, ["attacks::"])
        if not failed or run(program, [failed], more=["--exact"])[0]:
            break
    if failed:
        sys.exit(f"nothing is switched off, and this fails: {failed}")
    return count


def notices(program, mutant):
    """The scenario that fails when the check is switched off."""
    off = ",".join([mutant["name"], *mutant.get("too", "").split()])
    for filters, seconds_max in [(mutant.get("see", "").split(), SOME_S_MAX), (["attacks::"], ALL_S_MAX)]:
        if not filters:
            continue
        start = time.monotonic()
        failed, _ = run(program, filters, off, seconds_max)
        # What only took too long may have been the machine's fault: it must do so once more, alone.
        if failed and " " not in failed and time.monotonic() - start > PATIENCE_S:
            failed, _ = run(program, [failed], off, seconds_max, ["--exact"])
        if failed:
            return failed
    return None


def main():
    every = mutants()
    unknown = set(sys.argv[1:]) - {mutant["name"] for mutant in every}
    if unknown:
        sys.exit("not in mutants.txt: " + ", ".join(sorted(unknown)))
    wanted = [mutant for mutant in every if len(sys.argv) == 1 or mutant["name"] in sys.argv[1:]]
    sources = prepare(every)
    program = build()
    passed = WORK / "passed.txt"
    if passed.exists() and passed.read_text() == sources:
        print("every scenario passes with every check in place, as an earlier run has found\n", flush=True)
    else:
        print(f"{everything_passes(program)} scenarios pass with every check in place\n", flush=True)
        passed.write_text(sources)
    survivors = []
    with (WORK / "results.txt").open("a") as results:
        for mutant in wanted:
            start = time.monotonic()
            failed = notices(program, mutant)
            if not failed:
                survivors.append(mutant["name"])
            name = failed.rsplit("::", 1)[1] if failed else "NOBODY NOTICED"
            line = f"{mutant['name']:<28} {name}  ({time.monotonic() - start:.0f} s)"
            print(line, flush=True)
            print(sources, line, file=results, flush=True)
    print(f"\n{len(wanted) - len(survivors)} of {len(wanted)} checks are missed by a scenario when they are switched off")
    if survivors:
        sys.exit("not missed by any: " + ", ".join(survivors))


if __name__ == "__main__":
    main()
