#!/bin/sh
# Retrains all models from the simulator's frames, and drives them on unseen roads. About 15 minutes on two cores.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv=$here/../../.venv
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --requirement "$here/requirements.txt"
nice -n 5 "$venv/bin/python" "$here/train.py" "$@"
"$venv/bin/python" "$here/evaluate.py" "$here/vla-1" "$here/vla-2-ultra" "$here/vla-2-ultra-se"
