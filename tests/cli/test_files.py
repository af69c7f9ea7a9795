"""``spk embed`` of many files, ``score``, ``calibrate``, and what a model says of itself."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

import speechbrain_ext
from speechbrain_ext.cli.main import VERBS
from speechbrain_ext.runtime import SpeakerModel, load_model
from speechbrain_ext.verification.embeddings import load_embeddings
from tests.cli.conftest import Spk
from tests.recipe.experiments import make_experiment
from tests.runtime.models import DIM, RATE, make_model, voice


def test_one_file_is_printed_or_kept(spk: Spk, voices: Path, tmp_path: Path) -> None:
    file = voices / "0_0.wav"
    numbers = spk("embed", file, "--json").json
    assert len(numbers) == DIM and len(spk("embed", file).out.split()) == DIM
    assert spk("embed", file, "--out", tmp_path / "a.npy").status == 0
    np.testing.assert_allclose(np.load(tmp_path / "a.npy"), numbers, rtol=1e-6)
    assert spk("embed", voices).status == 2  # where to?


def test_980_of_1000_files_are_embedded(spk: Spk, tmp_path: Path) -> None:
    """And 20 listed with their reasons; with exit status 1; run again, nothing is done twice."""
    folder, bad = tmp_path / "calls", {}
    good = voice(1, seconds=0.5)
    for n in range(1000):
        path = folder / f"{n // 100}" / f"{n:03d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        if n % 50:
            soundfile.write(path, good, RATE)
            continue
        kind = ("empty", "unreadable", "silent", "not_finite")[n // 50 % 4]
        bad[str(path)] = kind
        if kind == "unreadable":
            path.write_text("a text")
        elif kind == "empty":
            path.touch()
        else:
            value = 0.0 if kind == "silent" else np.nan
            soundfile.write(path, np.full(8000, value), RATE, subtype="FLOAT")
    out = tmp_path / "calls.npz"
    done = spk("embed", folder, "--out", out, "--json")
    assert done.status == 1
    assert (done.json["written"], done.json["present"]) == (980, 0)
    assert {each["path"]: each["cause"] for each in done.json["failures"]} == bad
    kept = load_embeddings(out)
    assert len(kept) == 980 and "3/301" in kept.ids and kept.vectors.shape == (980, DIM)
    assert len((tmp_path / "calls.failures.tsv").read_text().splitlines()) == 21
    assert "and 0 more" not in done.err and done.err.count("failed: ") == 20
    again = spk("embed", folder, "--out", out, "--json")
    assert (again.json["written"], again.json["present"]) == (0, 980)


def test_a_run_that_was_stopped_goes_on(
    spk: Spk, voices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was made before is not made again; audio that changed is."""
    embedded, check = list[int](), SpeakerModel._checked

    def stop_at_the_fifth(self: SpeakerModel, embedding: np.ndarray) -> np.ndarray:
        embedded.append(1)
        if len(embedded) == 5:
            raise KeyboardInterrupt
        return check(self, embedding)

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(SpeakerModel, "_checked", stop_at_the_fifth)
        with pytest.raises(KeyboardInterrupt):  # of which the process ends, as a shell's loop asks
            spk("embed", voices, "--out", out)
    there = spk("embed", voices, "--out", out, "--json").json
    assert (there["written"], there["present"]) == (5, 4)
    os.utime(voices / "0_0.wav", (1, 1))
    (out / "1_1.npy").unlink()
    changed = spk("embed", voices, "--out", out, "--json").json
    assert (changed["written"], changed["present"]) == (2, 7)
    assert len(load_embeddings(out / "embeddings.npz")) == 9
    expected = load_model(os.environ["SPK_MODEL"]).embed(voices / "1_1.wav")
    np.testing.assert_array_equal(np.load(out / "1_1.npy"), expected)


def test_another_models_embeddings_are_not_mixed(spk: Spk, voices: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.npz"
    assert spk("embed", voices, "--out", out).status == 0
    other = make_model(tmp_path / "other", seed=1)
    done = spk("embed", voices, "--out", out, "--model", other)
    assert done.status == 2 and "another model" in done.err


def test_lists_of_recordings(spk: Spk, voices: Path, tmp_path: Path) -> None:
    scp, plain, out = tmp_path / "wav.scp", tmp_path / "list.txt", tmp_path / "out.npz"
    (voices / "with space.wav").write_bytes((voices / "0_0.wav").read_bytes())
    scp.write_text(f"ann-1 {voices}/0_0.wav\nann-2 0_1.wav\n")
    plain.write_text("1_0.wav\nwith space.wav\n")
    assert spk("embed", scp, plain, "--root", voices, "--out", out).status == 0
    assert load_embeddings(out).ids == ["1_0", "ann-1", "ann-2", "with space"]
    missing = tmp_path / "missing.txt"
    missing.write_text("ann-3 nowhere.wav\n")
    done = spk("embed", missing, "--out", out)
    assert done.status == 1 and "nowhere.wav: unreadable" in done.err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("../../escape {voices}/0_0.wav", "outside"),
        ("/a {voices}/0_0.wav\na {voices}/0_0.wav", "both be called"),
        ("ann sox {voices}/0_0.wav -t wav - |", "command"),
    ],
)
def test_lists_lead_nowhere_else(
    spk: Spk, voices: Path, tmp_path: Path, line: str, said: str
) -> None:
    """Neither out of the folder for embeddings nor into a shell."""
    scp = tmp_path / "wav.scp"
    scp.write_text(line.format(voices=voices))
    done = spk("embed", scp, "--out", tmp_path / "deep" / "er" / "out")
    assert done.status == 2 and said in done.err
    assert not list(tmp_path.rglob("*.npy"))


def test_absolute_paths_lie_below_the_folder(spk: Spk, voices: Path, tmp_path: Path) -> None:
    """As tar has them: lists of absolute paths are the commonest."""
    listed, out = tmp_path / "list.txt", tmp_path / "out"
    listed.write_text(f"{voices}/0_0.wav\n{voices}/0_1.wav\n")
    assert spk("embed", listed, voices / "1_0.wav", "--out", out).status == 0
    arrays = sorted(path.relative_to(out) for path in out.rglob("*.npy"))
    assert arrays == [Path(f"{voices}/{name}.npy".lstrip("/")) for name in ("0_0", "0_1", "1_0")]
    assert spk("embed", listed, "--out", out, "--json").json["present"] == 2


def test_a_name_that_leads_out_is_text_in_one_file(spk: Spk, voices: Path, tmp_path: Path) -> None:
    scp = tmp_path / "wav.scp"
    scp.write_text(f"../../escape {voices}/0_0.wav")
    assert spk("embed", scp, "--out", tmp_path / "out.npz").status == 0
    assert load_embeddings(tmp_path / "out.npz").ids == ["../../escape"]


def test_one_recording_in_several_formats_is_embedded_once(
    spk: Spk, voices: Path, tmp_path: Path
) -> None:
    soundfile.write(voices / "0_0.flac", voice(0), RATE)
    done = spk("embed", voices, "--out", tmp_path / "out.npz")
    assert "9 embeddings" in done.out and "other formats of these: 1" in done.out


def test_mistakes_of_embed(spk: Spk, voices: Path, tmp_path: Path) -> None:
    empty, twice = tmp_path / "empty", tmp_path / "twice.scp"
    empty.mkdir()
    sliding = ("--window", "sliding", "--out", tmp_path / "o.npz")
    twice.write_text(f"a {voices}/0_0.wav\na {voices}/0_1.wav\n")
    for words, said in (
        ((empty, "--out", tmp_path / "o.npz"), "no audio"),
        ((tmp_path / "none.txt", "--out", tmp_path / "o.npz"), "none.txt"),
        ((twice, "--out", tmp_path / "o.npz"), "both called a"),
        ((voices, "--window", "hopping"), "hopping"),
        ((voices / "0_0.wav", "--window", "sliding"), "--out NAME.npz"),
        (("-", voices / "0_0.wav"), "alone"),
        (("-", "--out", tmp_path / "folder"), "no name"),
        ((twice,), "--out"),
        ((twice, "--out", tmp_path / "o.npy"), "--out"),
        ((voices, "--out", voices / "0_0.wav"), "no folder"),
        ((twice, *sliding), "one recording"),
        ((voices, *sliding), "one recording"),
        ((voices / "0_0.wav", *sliding, "--duration", "inf"), "--duration"),
        ((voices / "0_0.wav", *sliding, "--step", "nan"), "--step"),
    ):
        done = spk("embed", *words)
        assert done.status == 2 and said in done.err, done
    assert not list(tmp_path.glob("o.*")) and not (tmp_path / "folder").exists()


def test_a_window_slides(spk: Spk, voices: Path, tmp_path: Path) -> None:
    out = tmp_path / "windows.npz"
    words = ("--window", "sliding", "--duration", "2", "--step", "1")
    assert spk("embed", voices / "0_0.wav", *words, "--out", out).status == 0
    with np.load(out) as arrays:
        assert arrays["times"].tolist() == [[0, 2], [1, 3], [2, 4]]
        assert arrays["embeddings"].shape == (3, DIM)


@pytest.fixture
def trials(voices: Path, tmp_path: Path) -> Path:
    """Every pair of recordings."""
    names = sorted(path.name for path in voices.iterdir())
    lines = [f"{int(a[0] == b[0])} {a} {b}" for n, a in enumerate(names) for b in names[n + 1 :]]
    path = tmp_path / "trials.txt"
    path.write_text("\n".join(lines))
    return path


def test_score_by_audio_and_by_embeddings(
    spk: Spk, voices: Path, trials: Path, tmp_path: Path
) -> None:
    out, kept = tmp_path / "scores.txt", tmp_path / "kept.npz"
    heard = spk("score", trials, "--root", voices, "--out", out, "--json").json
    assert heard["targets"] == 9 and heard["nontargets"] == 27 and heard["eer"] == 0
    assert heard["scale"] == "cosine" and len(out.read_text().splitlines()) == 36
    spk("embed", voices, "--out", kept)
    assert spk("score", trials, "--embeddings", kept, "--json").json["eer"] == 0
    shown = spk("score", trials, "--root", voices)
    assert "cosines" in shown.out and "EER 0.00 %" in shown.out
    absent = spk("score", trials, "--root", tmp_path)
    assert absent.status == 2 and "9 recordings" in absent.err and "--root" in absent.err


def test_calibrate_on_trials_of_ones_own(
    spk: Spk, voices: Path, trials: Path, tmp_path: Path
) -> None:
    fitted = tmp_path / "mine.json"
    few = spk("calibrate", trials, "--root", voices, "--out", fitted)
    assert few.status == 2 and "9 target" in few.err and not fitted.exists()
    soundfile.write(voices / "0_3.wav", voice(0, 3), RATE)
    with trials.open("a") as file:
        file.write("\n1 0_3.wav 0_0.wav\n1 0_3.wav 0_1.wav\n")
    words = ("calibrate", trials, "--root", voices, "--out", fitted, "--json")
    measures = ("--measure", "duration", "--measure", "norm", "--measure", "cohort")
    weighed = spk(*words, *measures).json["calibration"]["weights"]
    assert set(weighed) == {"score", "duration", "norm", "cohort"}
    assert spk(*words, "--measure", "weather").status == 2
    done = spk(*words).json
    assert done["fitted_on"]["speakers"] == 3 and done["fitted_on"]["targets"] == 11
    assert set(done["calibration"]["weights"]) == {"score"}
    pair = voices / "0_0.wav", voices / "0_1.wav"
    decision = spk("verify", *pair, "--decisions", fitted, "--json").json
    points = {each["name"]: each["threshold"] for each in done["operating_points"]}
    assert decision["threshold"] == points["false_alarm_0.01"] and decision["same"]
    fitted.write_text("{}")
    broken = spk("verify", *pair, "--decisions", fitted)
    assert broken.status == 2 and str(fitted) in broken.err and "spk calibrate" in broken.err


def test_a_failure_is_one_line(spk: Spk, voices: Path, tmp_path: Path) -> None:
    """On the terminal and in the table, whatever the name has in it."""
    (voices / "two\n\x1b[2Jlines\t.wav").write_text("no sound")
    done = spk("embed", voices, "--out", tmp_path / "o.npz")
    assert done.status == 1 and done.err.count("\n") == 1
    assert r"two\n\x1b[2Jlines\t.wav: unreadable" in done.err
    _, row = (tmp_path / "o.failures.tsv").read_text().splitlines()
    assert row.split("\t")[:2] == [rf"{voices}/two\n\x1b[2Jlines\t.wav", "unreadable"]


def test_info_says_what_the_model_is(spk: Spk, model_folder: Path) -> None:
    facts = spk("info", "--json").json
    model = load_model(model_folder)
    assert facts["sha256"] == model.digest and facts["embedding_size"] == DIM
    assert facts["reads"] == "waveform" and len(facts["decisions"]["operating_points"]) == 4
    shown = spk("info").out
    assert "not supported by so few" in shown and "0.01 %" in shown
    alone = spk("info", "--model", model_folder / "waveform.onnx")
    assert alone.status == 0 and "no threshold" in alone.out


def test_a_models_name_is_no_markup(spk: Spk, model_folder: Path, tmp_path: Path) -> None:
    named = tmp_path / "[bold]v6.onnx"
    named.write_bytes((model_folder / "waveform.onnx").read_bytes())
    done = spk("benchmark", "--seconds", "0.5", "--rounds", "1", "--model", named)
    assert done.status == 0 and "[bold]v6.onnx" in done.out


def test_benchmark_measures(spk: Spk) -> None:
    rows = spk("benchmark", "--seconds", "0.5", "--seconds", "1", "--rounds", "2", "--json").json
    assert [row["seconds"] for row in rows["speeds"]] == [0.5, 1]
    assert all(row["milliseconds"] > 0 for row in rows["speeds"])
    assert "real time" in spk("benchmark", "--seconds", "0.5", "--rounds", "1").out
    assert spk("benchmark", "--seconds", "0").status == 2


def test_help_has_an_example_for_every_verb(spk: Spk) -> None:
    for verb in VERBS:
        done = spk(verb, "--help")
        assert done.status == 0 and f"Example: spk {verb}" in done.out
    assert spk("--version").out.strip() == speechbrain_ext.__version__
    assert spk("transcribe").status == 2


def test_export_is_the_recipes(spk: Spk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = make_experiment(tmp_path / "exp")
    done = spk("export", experiment, "--formats", "none", "--json")
    assert done.status == 0 and done.json["out"] == str(experiment / "export")
    facts = json.loads((experiment / "export" / "model.json").read_text())
    assert facts["embedding_size"] == 8
    assert spk("export", experiment, "--formats", "mp3").status == 2
    alone = spk("export", experiment)  # as export.py, where no other file can be made
    assert alone.status == 0 and "SpeechBrain alone" in alone.out
