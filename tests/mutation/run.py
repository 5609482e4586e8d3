#!/usr/bin/env python3
"""Switches off one check at a time and asks the attack scenarios to notice.

    python3 tests/mutation/run.py [NAME ...]

mutants.txt beside this file lists the checks. All of them are patched into one copy of the sources, each behind an environment
variable, so that one build serves all runs: target/mutation/ holds the copy and the build. First every scenario must pass with
nothing switched off; then, check by check, the scenarios that the list expects to fail are run, and all the others when they do
not. The result is a table; the exit code is 1 when a check could be switched off without any scenario failing.
"""

import os
import pathlib
import re
import signal
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WORK = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "mutation"
COPY = WORK / "source"
SWITCH = "SWITCHBACK_MUTANT"

# Longest run with a check switched off, and longest wait of a scenario for what will not come then.
SECONDS_MAX = 240
PATIENCE = ("sdk/tests/common/mod.rs", "const PATIENCE: Duration = Duration::from_secs(300);", "const PATIENCE: Duration = Duration::from_secs(20);")

# Crates that mutants live in, with the file that the switch is added to.
SWITCHES = {
    "signing/": ("signing/src/lib.rs", """
extern crate std;
/// Whether the check of this name is switched off.
pub fn mutant(name: &str) -> bool {
    std::env::var("%s").is_ok_and(|off| off.split(',').any(|off| off == name))
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
    sources[mutant["file"]] = (text[:at] + changed + text[at + len(mutant["from"]):]).encode()


def prepare(all_of_them):
    """Writes the copy, and only what has changed in it since the last time, so that only that is built again."""
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    sources = {name: (ROOT / name).read_bytes() for name in names if (ROOT / name).is_file()}
    for mutant in all_of_them:
        patch(mutant, sources)
    for crate, (name, switch) in SWITCHES.items():
        if any(mutant["file"].startswith(crate) for mutant in all_of_them):
            sources[name] += switch.encode()
    name, usual, short = PATIENCE
    assert usual.encode() in sources[name], f"{name} has another patience"
    sources[name] = sources[name].replace(usual.encode(), short.encode())
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


def run(filters, mutant=None):
    """Runs scenarios; returns the names of those that failed and how many ran."""
    environment = {**os.environ, "CARGO_TARGET_DIR": str(WORK / "build")}
    environment.pop(SWITCH, None)
    if mutant:
        environment[SWITCH] = mutant
    command = ["cargo", "test", "-q", "-p", "switchback-tests", "--test", "all", "--", *filters]
    with subprocess.Popen(command, cwd=COPY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, process_group=0) as child:
        try:
            output, _ = child.communicate(timeout=SECONDS_MAX if mutant else None)
        except subprocess.TimeoutExpired:
            # A check whose absence leads round in circles is missed as well.
            os.killpg(child.pid, signal.SIGKILL)
            return ["attacks::scenarios that never end"], 0
    failed = sorted(set(re.findall(r"^    (attacks::\S+)$", output, re.M)))
    count = re.search(r"test result: \S+ (\d+) passed; (\d+) failed", output)
    if not count:
        sys.exit(f"the scenarios did not run:\n{output[-8000:]}")
    return failed, int(count[1]) + int(count[2])


def main():
    every = mutants()
    wanted = [mutant for mutant in every if len(sys.argv) == 1 or mutant["name"] in sys.argv[1:]]
    prepare(every)
    failed, count = run(["attacks::"])
    if failed:
        sys.exit("nothing is switched off, and these fail: " + ", ".join(failed))
    print(f"{count} scenarios pass with every check in place\n")
    survivors = []
    for mutant in wanted:
        start = time.monotonic()
        off = ",".join([mutant["name"], *mutant.get("too", "").split()])
        failed, _ = run(mutant.get("see", "attacks::").split(), off)
        if not failed and "see" in mutant:
            failed, _ = run(["attacks::"], off)
        if not failed:
            survivors.append(mutant["name"])
        names = ", ".join(name.rsplit("::", 1)[1] for name in failed[:3]) + (f" and {len(failed) - 3} more" if len(failed) > 3 else "")
        print(f"{mutant['name']:<28} {names or 'NOBODY NOTICED'}  ({time.monotonic() - start:.0f} s)", flush=True)
    print(f"\n{len(wanted) - len(survivors)} of {len(wanted)} checks are missed by a scenario when they are switched off")
    if survivors:
        sys.exit("not missed by any: " + ", ".join(survivors))


if __name__ == "__main__":
    main()
