"""A copy of run.sh with a stub for every step, which writes down how it was called."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.processes import HANG

ROOT = Path(__file__).resolve().parents[2]
RECIPE = Path("recipes/VoxCeleb/distill_mixer")
FLOW = [
    "prepare_corpus.py",
    "prepare_manifests.py",
    "train_teacher.py",
    "train_distill.py",
    "extract.py",
    "extract.py",
    "score.py",
    "score.py",
    "export.py",
    "benchmark.py",
    "benchmark.py",
    "report.py",
]
SSL_YAMLS = {
    "outside.yaml": "system: ../../outside\n",
    "shared/base.yaml": "lr: 0.001\n",
    "large_margin.yaml": "!include:v2.yaml\nsystem: v2_large_margin\n",
    "shared/ssl.yaml": "!include:base.yaml\n# Words.\nteacher_source: 'some/wavlm' # its name\n",
    "teachers/campplus.yaml": "embedding_model: !new:some.Network\n",
    "teachers/onnx.yaml": "model: null\nframework: null\n"
    "embedding_model: !new:speechbrain_ext.lobes.foreign.OnnxModel\n",
    "ssl/sv_mixer.yaml": "!include:../shared/ssl.yaml\nsystem: sv_mixer\n",
    "ssl/smaller.yaml": "!include:sv_mixer.yaml\nsystem: smaller\nteacher_source: other/hubert\n",
    "ssl/no_kd.yaml": "!include:sv_mixer.yaml\nsystem: no_kd\nteacher: null # labels alone\n",
    "ssl/teachers/other.yaml": "teacher_source: an/other\n",
    "ssl/chosen.yaml": "includes: [sv_mixer.yaml, teachers/other.yaml]\nsystem: chosen\n",
    # Taught by an experiment, whatever else it includes.
    "ssl/of_experiment.yaml": "!include:sv_mixer.yaml\nsystem: of_exp\nteacher_folder: exp/x\n",
    "ssl/tuned.yaml": "!include:../shared/base.yaml\nsystem: tuned\nteacher_source: some/wavlm\n",
    "ssl/aligned.yaml": "!include:sv_mixer.yaml\nsystem: aligned\nteacher_source: null\n"
    "teacher_folder: !ref <exp_root>/<corpus>/tuned/seed_<seed>\n",
}
MODEL = ["--teacher_model", "campplus"]
LARGE_MARGIN = ["--large_margin", "hparams/large_margin.yaml"]
# Python itself says what YAML files are, which is no step.
# What it says of a corpus needs PyTorch, so the stub says it.
DESCRIBE = f"""#!/usr/bin/env bash
case "$*" in
    *import\\ onnx*) exit ;;
    *training.second*) case "$*" in *"${{FAIL:-nothing}}"*) exit 3 ;; esac; exit ;;
    *describe\\ --student_options*imported) echo "--lin_neurons 192"; exit ;;
    *describe\\ --student_options*) exit ;;
    *describe\\ --enrols*) case "$*" in *imported*v6*) echo true ;; *) echo false ;; esac; exit ;;
    *systems.describe*)
        echo 'makers="mini or voxceleb"'
        case "$*" in
            *--corpus\\ mini) options="train_speakers --corpus_seed --max_seconds" ;;
            *--corpus\\ own) options="data --trials_root --unlabelled" ;;
            *--corpus\\ voxceleb) options="voxceleb1 --voxceleb2 --voxceleb1_test_only" ;;
            *--corpus\\ letters) options="letters" ;;
        esac
        echo "corpus_options='${{options:+--out --jobs --$options}}'"
        case "$*" in *" --corpus "*) set -- "${{@:1:$#-2}}" ;; esac
        PYTHONPATH={ROOT} exec {sys.executable} "$@" ;;
esac
"""
# Notes how it was called, and leaves what the next stage looks for.
STUB_PYTHON = (
    DESCRIBE
    + """
echo "${HF_HUB_OFFLINE:+offline }$*" >> "$CALLS"
case "$*" in *"${FAIL:-nothing}"*) echo "what went wrong" >&2; exit 3 ;; esac
all=("$@")
value() {
    local i
    for i in "${!all[@]}"; do [ "${all[i]}" != "$1" ] || echo "${all[i + 1]}"; done
}
leave() { for file; do mkdir -p "$(dirname "$file")"; touch "$file"; done; }
case "$*" in
    *prepare_corpus.py*)
        out=$(value --out)
        case "$*" in *\ own\ *) ;; *) leave "$out/trials/test.txt" ;; esac
        case "$*" in *\ own\ *--unlabelled*) ;; *) leave "$out/dev/a" ;; esac
        case "$*" in *\ --data\ *) leave "$out/dev/a" ;; esac
        case "$*" in *\ --unlabelled\ *) leave "$out/unlabelled/00/a" ;; esac
        leave "$out/corpus.json" ;;
    *prepare_manifests.py*)
        leave "$(value --corpus_dir)/manifests/manifest.json" ;;
    *import_teacher*) leave "$(value --out)/"{hyperparams.yaml,save/embedding_model.safetensors} ;;
    *train_*) leave "$(value --output_folder)/save/embedding_model.safetensors" ;;
    *score.py*) mkdir -p "${2%/}/results" ;;
esac
"""
)


class Recipe:
    """A copy of run.sh whose Python is a stub."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder, self.calls_file = root, root / RECIPE, root / "calls"
        (self.folder / "hparams").mkdir(parents=True)
        (root / "tools").mkdir()
        shutil.copy(ROOT / "run.sh", root)
        shutil.copy(ROOT / RECIPE / "run.sh", self.folder)
        shutil.copytree(ROOT / RECIPE / "utils", self.folder / "utils")
        for system in ("teacher", "v2"):
            (self.folder / f"hparams/{system}.yaml").write_text(f"system: {system} # name\n")
        (self.folder / "hparams/v6.yaml").write_text("system: v6\nclassifier: null\n")
        for name, text in SSL_YAMLS.items():
            path = self.folder / "hparams" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self._script(root / "python", STUB_PYTHON)
        self._script(
            root / "tools/setup_env.sh",
            f"#!/usr/bin/env bash\necho $1 > '{root}/extras'\necho '{root}/python'\n",
        )

    @staticmethod
    def _script(path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o755)

    def run(
        self, *options: str, cwd: Path | None = None, fail: str = "nothing"
    ) -> subprocess.CompletedProcess[str]:
        """Call run.sh as a user does; ``fail`` is part of the call of the step to fail."""
        return subprocess.run(
            ["bash", str(self.root / "run.sh"), *options],
            cwd=cwd or self.root,
            env={**os.environ, "CALLS": str(self.calls_file), "FAIL": fail},
            capture_output=True,
            text=True,
            timeout=HANG,
        )

    def calls(self) -> list[str]:
        """Give every call of Python, and forget them."""
        if not self.calls_file.exists():
            return []
        lines = self.calls_file.read_text().splitlines()
        self.calls_file.unlink()
        return lines


def script_names(calls: list[str]) -> list[str]:
    scripts = [next(word for word in call.split() if word.endswith(".py")) for call in calls]
    return [Path(script).name for script in scripts]
