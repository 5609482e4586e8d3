#!/bin/sh
# Provides the ONNX Runtime shared library that `cargo run` and `cargo test` open at run time.
#
#   ORT_DYLIB_PATH set   that library is used: this script only checks that it exists.
#   otherwise            target/onnxruntime/libonnxruntime.so.1, taken from the wheel pinned in onnxruntime.lock.
#
# Needs python3 with pip, and nothing when the library is already there. Safe to run twice at once: the
# library appears by rename, after its hash was checked, so that nobody can open half a file.
set -eu

fail() {
    echo "get-onnxruntime: $*" >&2
    exit 1
}

if [ -n "${ORT_DYLIB_PATH:-}" ]; then
    [ -f "$ORT_DYLIB_PATH" ] || fail "ORT_DYLIB_PATH names '$ORT_DYLIB_PATH', which is not a file;" \
        "correct it, or unset it to use the pinned library"
    exit 0
fi

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
lock="$here/onnxruntime.lock"
out="$here/../../target/onnxruntime"
library="$out/libonnxruntime.so.1"
member="onnxruntime/capi/libonnxruntime.so.1.31.1"

# The hash of the library inside the wheel, so that the check needs no wheel on the second run.
machine=$(uname -m)
case "$(uname -s)-$machine" in
Linux-x86_64) library_sha256=fc44112fbe06d7d689c57e11d3862031f64711007e4ee020f8eed5185fd2c1d3 ;;
Linux-aarch64) library_sha256=8aa3b76b28c778a2b1dd660d34161adb1d508c9ccd04ff9dc80e26eca5df8467 ;;
*) fail "no ONNX Runtime is pinned for $(uname -s) on $machine;" \
    "set ORT_DYLIB_PATH to a libonnxruntime of version 1.23 or later" ;;
esac

matches() { # FILE: has it the pinned hash?
    [ -f "$1" ] && [ "$(sha256sum <"$1")" = "$library_sha256  -" ]
}

if matches "$library" && [ -f "$out/LICENSE" ]; then
    exit 0
fi

command -v python3 >/dev/null || fail "python3 is needed to fetch ONNX Runtime;" \
    "install python3 and python3-pip, or set ORT_DYLIB_PATH"
python3 -m pip --version >/dev/null 2>&1 || fail "pip is needed to fetch ONNX Runtime;" \
    "install python3-pip, or set ORT_DYLIB_PATH"

mkdir -p "$out"
work=$(mktemp -d "$out/part.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

echo "get-onnxruntime: fetching the pinned ONNX Runtime 1.31.1 for $machine" >&2
# cp311 names the wheel, not the Python that runs here: every machine takes the same bytes.
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
    --platform "manylinux_2_28_$machine" --implementation cp --python-version 3.11 --abi cp311 \
    --require-hashes --requirement "$lock" --dest "$work" ||
    fail "the wheel could not be downloaded (see pip's message above)"

python3 - "$work" "$member" <<'PYTHON' || fail "the wheel could not be unpacked"
import glob, os, shutil, sys, zipfile

work, member = sys.argv[1:]
(wheel,) = glob.glob(os.path.join(work, "*.whl"))
with zipfile.ZipFile(wheel) as archive:
    for name, to in ((member, "library"), ("onnxruntime/LICENSE", "LICENSE")):
        with archive.open(name) as source, open(os.path.join(work, to), "wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
            target.flush()
            os.fsync(target.fileno())
PYTHON

matches "$work/library" || fail "the library in the wheel has not the pinned hash $library_sha256"
chmod 0755 "$work/library"
chmod 0644 "$work/LICENSE"
# The license first: whoever sees the library also finds its terms.
mv -f "$work/LICENSE" "$out/LICENSE"
mv -f "$work/library" "$library"
