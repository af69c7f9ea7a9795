"""What a model folder says of itself to who opens it."""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import speechbrain_ext
from speechbrain_ext.decisions import Decisions
from speechbrain_ext.errors import UserError
from speechbrain_ext.formats import SAMPLE_RATE
from speechbrain_ext.systems.experiment import read_hyperparams, teacher_name
from speechbrain_ext.verification.conditions import CARD

README = """\
# {title}

{parameters}, embeddings of {size} numbers. {origin}Needs the package `speechbrain_ext`
({version}) beside SpeechBrain: `pip install {package}` in the repository that made this folder.

```python
from speechbrain_ext.inference.verifier import SpeakerVerifier

model = SpeakerVerifier.from_hparams(source="this/folder", savedir="this/folder")
score, same = model.verify_files("a.wav", "b.mp3"{example})
embeddings = model.encode_batch(waveforms, relative_lengths)  # {sample_rate} Hz; (batch, 1, {size})
```

{thresholds}
{operating_points}
SpeechBrain's `SpeakerRecognition` loads the folder too. Its `verify_files` decides by 0.25, which
is another model's threshold, and gives silence a score.
{classes}
{engines}
`hyperparams.yaml` is HyperPyYAML: loading it runs code. `SpeakerVerifier` refuses code of other
packages than SpeechBrain, PyTorch and its own; SpeechBrain's classes do not. The `.ckpt` files of
weights load with `torch.load(weights_only=True)`.
"""

ENGINES = """\
## Without PyTorch

    spk verify a.wav b.mp3 --model this/folder

needs `pip install .` in the repository that made this folder, and nothing of the above.

`waveform.onnx` reads waveforms of 16 kHz in [-1, 1], (batch, samples), and gives embeddings; the
cosine of two is the score. `speaker-embedding.onnx`, where there is one, reads Kaldi's filter bank
(80 bands, 25 and 10 ms), which sherpa-onnx, WeSpeaker and pyannote compute themselves. Files with
`int8` or `fp16` in their names have weights and activations of 8 or 16 bits. Each was compared with
PyTorch on real speech of 0.5 to 60 s, and on trials:"""


def count_words(parameters: int | None) -> str:
    """How large a model is, in words.

    Example
    -------
    >>> count_words(2664576), count_words(None)
    ('2,664,576 parameters', 'A model in a file of its own')
    """
    return "A model in a file of its own" if parameters is None else f"{parameters:,} parameters"


def title_of(experiment: Path) -> str:
    """What a model is called: its corpus, system and seed.

    Example
    -------
    >>> title_of(Path("exp/mini/v2/seed_1"))
    'mini/v2/seed_1'
    """
    return "/".join(experiment.resolve().parts[-3:])


def readme(
    experiment: Path,
    facts: Mapping[str, Any],
    package: str,
    results: Mapping[str, Mapping[str, Any]],
    conditions: bool = False,
) -> str:
    """How to use a model folder, and what was measured of it.

    Arguments
    ---------
    experiment : Path
        What it was made from.
    facts : mapping
        What ``model.json`` says.
    package : str
        What to give ``pip install``.
    results : mapping
        What the recipe found of these weights, by the name of the trials.
    conditions : bool
        Whether there is a card of what it does under conditions beside it.
    """
    threshold = facts["threshold"]
    if threshold is None:
        decision = "The recipe has not scored this model: find a threshold on data of your own."
    else:
        title = results["valid"].get("title", "valid")
        decision = (
            f"Two files are of one person where their cosine is above {threshold:.4f}: between "
            f"{title},\nas many pairs are then wrongly accepted as wrongly refused. Give "
            "`threshold=` another where the two\ndo not cost the same, or on speech of another "
            "kind."
        )
    thresholds = [decision]
    if results:
        thresholds += ["", "| trials | EER % | threshold there |", "| --- | --- | --- |"]
    for name, result in results.items():
        synthetic = ", synthetic speech" if result.get("synthetic") else ""
        figures = f"{result['eer']:.2f} | {result['eer_threshold']:.4f}"
        thresholds.append(f"| {result.get('title', name)}{synthetic} | {figures} |")
    thresholds.append("")
    if conditions:
        thresholds.append(
            f"How it decides on short, noisy, far or coded speech is in [{CARD}]({CARD}).\n"
        )
    classes = (
        f"`classify_batch` names one of the {facts['speakers']} training speakers."
        if facts["speakers"]
        else "The model has no classifier: `classify_batch` cannot be used."
    )
    return README.format(
        title=f"Speaker verification: {facts['title']}",
        parameters=count_words(facts["parameters"]),
        origin=_origin(experiment),
        size=facts["embedding_size"],
        sample_rate=SAMPLE_RATE,
        version=speechbrain_ext.__version__,
        package=package,
        thresholds="\n".join(thresholds),
        operating_points=operating_points_table(facts["decisions"]),
        example="" if threshold is not None else ", threshold=0.5",
        classes=classes,
        engines=_engines(facts["files"]),
    )


def operating_points_table(tree: Mapping[str, Any] | None) -> str:
    """Thresholds by what they give, with what supports them, and the calibration."""
    if tree is None:
        return ""
    decisions = Decisions.read(tree)
    fitted = decisions.fitted_on
    words = (
        f"Fitted on {fitted['title']}: {fitted['targets']:,} target and "
        f"{fitted['nontargets']:,} non-target trials of {fitted['speakers']:,} speakers. A score "
        "at or above a threshold is accepted. The rates are those of such trials. Where speakers "
        "are more alike, as of one source where the fit has several, or recordings are of another "
        "kind, there can be several times as many false alarms. Fit thresholds on trials of your "
        "own where they matter."
    )
    lines = [
        textwrap.fill(words, 100),
        "",
        "| false alarms | threshold of the cosine | supported by |",
        "| --- | ---: | --- |",
    ]
    for point in decisions.operating_points:
        rate = f"{100 * point.false_alarm:.3g} %" + (
            ", as of misses" if point.name == "eer" else ""
        )
        support = f"{point.trials:,} false alarms"
        if not point.supported:
            support = f"not supported by so few as {point.trials:,} (10 are needed)"
        lines.append(f"| {rate} | {point.threshold:.4f} | {support} |")
    if decisions.calibration is not None:
        weights = decisions.calibration.weights
        terms = " + ".join(f"{weight:.3f} · {name}" for name, weight in weights.items())
        lines += [
            "",
            f"Log-likelihood ratio (natural): {decisions.calibration.bias:.3f} + {terms}.",
        ]
    return "\n".join([*lines, ""])


def _engines(files: Sequence[Mapping[str, Any]]) -> str:
    """The files for other engines, how near each is to PyTorch, and how it decides."""
    if not files:
        return ""
    lines = [ENGINES, "", "| file | input | MB | least cosine to PyTorch | EER % (to PyTorch's) |"]
    lines.append("| --- | --- | ---: | ---: | --- |")
    for file in files:
        least = min(each["cosine"] for each in file["parity"])
        decisions = "; ".join(_decision(trials) for trials in file["trials"])
        lines.append(
            f"| `{file['file']}` | {file['input']} | {file['bytes'] / 1e6:.1f} | {least:.5f} | "
            f"{decisions} |"
        )
    in_float = {name: None for file in files for name in file["in_float"]}
    if in_float:
        names = ", ".join(f"`{name}`" for name in in_float)
        lines += ["", f"Layers of the `int8` files that are in FP32: {names}."]
    return "\n".join(lines) + "\n"


def _decision(trials: Mapping[str, Any]) -> str:
    between = trials["difference_interval_95"]
    interval = "" if between is None else " [{:+.2f}, {:+.2f}]".format(*between)
    return f"{trials['title']} {trials['eer']:.2f} ({trials['difference']:+.2f}{interval})"


def _origin(experiment: Path) -> str:
    """Who made the model, or its teacher, and under which licence; empty where it had none."""
    settings = read_hyperparams(experiment)
    if "licence" in settings:
        return f"It is {_made_by(settings)}. "
    if settings.get("teacher") is None:
        return ""
    name, folder = teacher_name(settings), settings.get("teacher_folder")
    if name is None and folder is not None:
        name = str(folder)
        with contextlib.suppress(UserError):  # it may lie elsewhere by now
            of_teacher = read_hyperparams(folder)
            name = _made_by(of_teacher) if "licence" in of_teacher else name
    return "" if name is None else f"Its teacher was {name}. "


def _made_by(settings: Mapping[str, Any]) -> str:
    """What ``local/import_teacher.py`` noted of a model that somebody else trained."""
    about = f"licence {settings['licence']}, SHA-256 {settings['checkpoint_sha256']}"
    return f"{settings['source']} ({about})"
