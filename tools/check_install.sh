#!/usr/bin/env bash
# Installs the package alone into a new environment, as `pip install .` does, and runs spk there. It prints
# what the installation takes and how long the runtime takes to import, and fails where PyTorch came along or
# the files of all packages, without the byte code that Python makes of them, are 150 MB or more. On Python 3.10
# they are more: the last ONNX Runtime for it brings sympy.
#
# usage: tools/check_install.sh [MODEL]      a model folder; the package's own by default, where it has one
#
# PYTHON=/path/to/python3 chooses the Python that the environment is made with.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
model=${1:-}
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
unset PYTHONPATH

"${PYTHON:-python3}" -m venv "$place/venv"
python=$place/venv/bin/python spk=$place/venv/bin/spk
mkdir "$place/source" # pip writes into what it builds
cp -R "$root/speechbrain_ext" "$root/pyproject.toml" "$root/README.md" "$root/LICENSE" "$place/source"
"$python" -m pip install --quiet --disable-pip-version-check "$place/source"
cd "$place"

"$python" - << 'END'
import sys
import sysconfig
from pathlib import Path

site = Path(sysconfig.get_path("purelib"))
ours = [p for p in site.iterdir() if not p.name.startswith(("pip", "setuptools", "_distutils", "pkg_res", "distutils"))]
files = [f for p in ours for f in (p.rglob("*") if p.is_dir() else [p]) if f.is_file()]
total, code = (sum(f.stat().st_size for f in files if f.suffix == ".pyc" or whole) / 1e6 for whole in (True, False))
print(f"installed: {total - code:.0f} MB, and {code:.0f} MB of byte code, in {len(files)} files")
heavy = [p.name for p in ours if p.name in ("torch", "scipy", "sklearn", "pandas", "speechbrain")]
large = total - code >= 150 and sys.version_info >= (3, 11)
sys.exit(f"error: {heavy[0]} came along" if heavy else "error: 150 MB or more" if large else 0)
END
"$python" - << 'END'
import subprocess
import sys
import time

for module in ("numpy", "speechbrain_ext.runtime", "speechbrain_ext.cli.main"):
    times = []
    for _ in range(3):
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
        times.append(time.perf_counter() - begun)
    print(f"python -c 'import {module}': {min(times):.2f} s")
END
"$spk" --help > help.txt
grep -q verify help.txt
if [ -n "$model" ] || [ -d "$root/speechbrain_ext/runtime/model" ]; then
    "$python" - << 'END'
import numpy as np
import soundfile

for name in ("a", "b"):
    sound = np.random.default_rng(ord(name)).normal(0, 0.1, 48000)
    soundfile.write(f"{name}.wav", sound * (np.sin(np.arange(48000) / 4000) > 0), 16000)
END
    time "$spk" verify a.wav a.wav --threshold 0.5 ${model:+--model "$model"}
    "$spk" enroll somebody a.wav --least-speech 0 --gallery team.gallery ${model:+--model "$model"}
    "$spk" identify a.wav --threshold 0.5 --gallery team.gallery ${model:+--model "$model"}
fi
echo "spk works without PyTorch"
