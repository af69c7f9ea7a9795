"""Stage 1 and bad input: each file that cannot be used, and each sentence a user is told."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from local import convert_audio
from local.prepare_manifests import main
from speechbrain_ext.corpora.manifest_settings import load_manifest_settings
from tests import refusals

YAML = Path(__file__).resolve().parents[2] / "recipes/VoxCeleb/distill_mixer/hparams/manifests.yaml"
NOISE = 0.1 * np.random.default_rng(0).uniform(-1, 1, 16000)


def speech(path: Path, samples: np.ndarray = NOISE, rate: int = 16000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate)
    return path


def tree(root: Path, speakers: int, utterances: int = 2, first: int = 0) -> Path:
    for speaker in range(first, first + speakers):
        for number in range(utterances):
            speech(root / f"spk{speaker:02}" / "s0" / f"{number}.wav", NOISE[:6400])
    return root


def write_list(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def run(corpus: Path, *arguments: object) -> None:
    words = [YAML, "--corpus_dir", corpus, "--jobs", 1, "--valid_speakers", 2, *arguments]
    main([str(word) for word in words])


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run the command, see it fail with one sentence, and give the sentence."""

    def _refused(*arguments: object) -> str:
        with pytest.raises(SystemExit) as exit_status:
            run(tmp_path / "corpus", *arguments)
        assert exit_status.value.code == 1
        assert not (tmp_path / "corpus" / "manifests").exists()
        text = capsys.readouterr().err
        assert text.startswith("error: ") and text.count("\n") == 1
        return text

    return _refused


@pytest.fixture
def train(tmp_path: Path) -> Path:
    return tree(tmp_path / "train", 4)


def test_each_cause_is_counted_and_listed(
    tmp_path: Path, train: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = train / "spk00" / "odd"
    odd.mkdir()
    (odd / "text.wav").write_text("not audio at all")
    (odd / "original.m4a").write_bytes(b"ftyp")
    (odd / "broken_link.flac").symlink_to(tmp_path / "nowhere.flac")
    whole = speech(odd / "cut.flac", np.tile(NOISE, 8)).read_bytes()
    (odd / "cut.flac").write_bytes(whole[: len(whole) // 2])
    nan = np.tile(NOISE, 4).astype("float32")
    nan[-3] = np.nan  # after what tells that it is not silent
    soundfile.write(odd / "nan.wav", nan, 16000, subtype="FLOAT")
    (odd / "empty.wav").touch()
    speech(odd / "no_samples.wav", NOISE[:0])
    speech(odd / "silent.wav", np.zeros(40000))
    speech(odd / "hiss.flac", NOISE / 200)
    speech(odd / "short.wav", NOISE[:4799])
    speech(odd / "cd.wav", NOISE, 44100)
    speech(odd / "stereo.wav", np.stack([NOISE, NOISE], 1))
    speech(odd / "white space.wav")
    speech(odd / "dollar$sign.wav")
    speech(odd / "twice.flac")
    speech(odd / "twice.wav")
    # All of these can be used: speech after a long silence, capitals, m4a beside its conversion.
    speech(odd / "late.wav", np.concatenate([np.zeros(48000), NOISE]))
    speech(odd / "CAPITALS.WAV")
    speech(odd / "converted.flac")
    (odd / "converted.m4a").write_bytes(b"ftyp")
    (odd / "._leftover.wav").write_bytes(b"x")
    speech(odd / "deeper" / "elsewhere.wav")

    run(tmp_path / "corpus", "--train", train)
    folder = tmp_path / "corpus" / "manifests"
    manifest = json.loads((folder / "manifest.json").read_text())
    expected = {
        "unreadable": {"text.wav", "broken_link.flac", "cut.flac"},
        "format": {"original.m4a"},
        "not_finite": {"nan.wav"},
        "empty": {"empty.wav", "no_samples.wav"},
        "silent": {"silent.wav", "hiss.flac"},
        "too_short": {"short.wav"},
        "sample_rate": {"cd.wav"},
        "channels": {"stereo.wav"},
        "name": {"white space.wav", "dollar$sign.wav"},
        "duplicate": {"twice.flac"},
    }
    assert manifest["skipped"] == {cause: len(names) for cause, names in expected.items()}
    header, *lines = (folder / "skipped.tsv").read_text().splitlines()
    assert header == "path\tcause\tdetail"
    found: dict[str, set[str]] = {}
    details = {}
    for line in lines:
        path, cause, detail = line.split("\t")
        found.setdefault(cause, set()).add(Path(path).name)
        details[Path(path).name] = detail
    assert found == expected
    assert details["original.m4a"] == ".m4a, which training does not read"
    assert details["cd.wav"] == "44100 Hz and 1 channel, not 16000 Hz and 1 channel"
    assert details["stereo.wav"] == "16000 Hz and 2 channels, not 16000 Hz and 1 channel"
    assert details["short.wav"] == "0.2999 s, less than 0.3 s"
    assert all(details.values())
    listed = (folder / "train.csv").read_text() + (folder / "valid.csv").read_text()
    assert {"late", "CAPITALS", "converted", "twice"} == set(
        re.findall("spk00/odd/(\\w+),", listed)
    )
    output = capsys.readouterr().out
    assert "skipped 15 files" in output and "passed over 1 audio files at another depth" in output


@pytest.mark.parametrize("broken", ["flac", "wav", "both"])
def test_of_an_utterances_files_the_usable_one_is_taken(
    tmp_path: Path, train: Path, broken: str
) -> None:
    """In training and in a trial list alike."""
    root = tree(tmp_path / "test", 2, first=90)
    for folder in (train / "spk00" / "s0", root / "spk90" / "s0"):
        for ending in ("flac", "wav"):
            path = speech(folder / f"0.{ending}")
            if broken in (ending, "both"):
                path.write_bytes(path.read_bytes()[:2000] if ending == "flac" else b"no audio")
    trials = write_list(
        tmp_path / "t.txt", "1 spk90/s0/0.wav spk90/s0/1", "0 spk90/s0/0 spk91/s0/0"
    )
    options = ["--train", train, "--trials", trials, "--trials_root", root]
    if broken == "both":
        with pytest.raises(SystemExit):
            run(tmp_path / "corpus", *options)
        return
    run(tmp_path / "corpus", *options)
    good = {"flac": "wav", "wav": "flac"}[broken]
    folder = tmp_path / "corpus" / "manifests"
    text = "".join((folder / f"{name}.csv").read_text() for name in ("train", "valid", "test"))
    assert str(train / "spk00" / "s0" / f"0.{good}") in text
    assert str(root / "spk90" / "s0" / f"0.{good}") in text
    skipped = (folder / "skipped.tsv").read_text()
    wav = train / "spk00" / "s0" / "0.wav"  # the first that is tried
    told = f"{wav}\tunreadable" if broken == "wav" else "0.flac\tduplicate"
    assert told in skipped


def convert_as_told(text: str, option: str) -> Path:
    """Run the command in a sentence as it stands, and give the folder that it names then."""
    command = re.search("`(.*?)`", text)
    assert command is not None
    python, script, *arguments = shlex.split(command[1])
    assert (python, script) == ("python", "local/convert_audio.py")
    convert_audio.main(arguments)
    assert f"{option} {arguments[-1]}" in text
    return Path(arguments[-1])


def test_nothing_usable(refused: Callable[..., str], tmp_path: Path) -> None:
    """The sentence names a file and what it is, and a command after which all is well."""
    source = tmp_path / "low speech"
    for speaker in "abcd":
        for number in "01":
            speech(source / speaker / "s" / f"{number}.wav", np.stack([NOISE, NOISE], 1), 8000)
    text = refused("--train", source)
    assert "8 audio files to train on cannot be used (8 sample_rate)" in text
    assert f"{source}/a/s/0.wav: 8000 Hz and 2 channels, not 16000 Hz and 1 channel" in text
    assert "valid_speakers" not in text
    run(tmp_path / "corpus", "--train", convert_as_told(text, "--train"))
    assert json.loads((tmp_path / "corpus/manifests/manifest.json").read_text())["train"]


def test_speech_of_trials_that_is_to_be_converted(
    refused: Callable[..., str], tmp_path: Path, train: Path
) -> None:
    root = tree(tmp_path / "test", 2, first=90)
    for number in "01":
        speech(root / "spk90" / "s0" / f"{number}.wav", NOISE, 44100)
    trials = tmp_path / "trials.txt"
    write_list(trials, "1 spk90/s0/0 spk90/s0/1", "0 spk90/s0/0 spk91/s0/1")
    options = ["--train", train, "--trials", trials, "--trials_root"]
    text = refused(*options, root)
    assert f"{root}/spk90/s0/0.wav" in text and "44100 Hz and 1 channel" in text
    run(tmp_path / "corpus", *options, convert_as_told(text, "--trials_root"))
    assert json.loads((tmp_path / "corpus/manifests/manifest.json").read_text())["test"]


def test_too_few_speakers_are_told_with_the_causes(
    refused: Callable[..., str], tmp_path: Path, train: Path
) -> None:
    for number in range(5):
        speech(tmp_path / "train" / "a b" / "s" / f"{number}.wav")
        speech(tmp_path / "train" / "c" / "s" / f"{number}.wav", NOISE, 8000)
    speech(tmp_path / "train" / "c" / "s" / "stereo.wav", np.stack([NOISE, NOISE], 1))
    table = tmp_path / "corpus" / "skipped.tsv"
    text = refused("--train", train, "--valid_speakers", 3)
    assert "which would leave 1 of the 4" in text
    assert "11 audio files to train on cannot be used" in text
    assert "5 name" in text and "5 sample_rate" in text and "1 channels" in text
    assert str(table) in text
    assert len(table.read_text().splitlines()) == 12
    run(tmp_path / "corpus", "--train", train)
    assert not table.exists() and (tmp_path / "corpus/manifests/skipped.tsv").exists()


@pytest.mark.parametrize("target", ["loop", "../..", "../spk01", "nowhere"])
def test_links_that_lead_nowhere_or_back(tmp_path: Path, train: Path, target: str) -> None:
    (train / "spk00" / "s0" / "loop").symlink_to(target)
    (train / "spk00" / "loop").symlink_to(target)
    (train / "spk00" / "s0" / "broken.wav").symlink_to("broken.wav")
    run(tmp_path / "corpus", "--train", train)
    folder = tmp_path / "corpus" / "manifests"
    assert "broken.wav\tunreadable" in (folder / "skipped.tsv").read_text()
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["train"]["utterances"] == 4


def test_folder_missing_empty_or_of_another_depth(
    refused: Callable[..., str], tmp_path: Path, train: Path
) -> None:
    assert "no such folder" in refused("--train", tmp_path / "missing")
    (tmp_path / "bare").mkdir()
    assert "no audio file lies at <speaker>/<session>" in refused("--train", tmp_path / "bare")
    speech(tmp_path / "flat" / "1.wav")
    text = refused("--train", tmp_path / "flat")
    assert "for instance, 1.wav" in text and str(tmp_path / "flat") in text


def test_folders_that_overlap_or_clash(
    refused: Callable[..., str], tmp_path: Path, train: Path
) -> None:
    assert "hold the same files" in refused("--train", train, train)
    assert "hold the same files" in refused("--train", train, train / "spk00")
    other = tree(tmp_path / "other", 1)
    text = refused("--train", train, other)
    assert "same name" in text and str(other / "spk00" / "s0" / "0.wav") in text


def test_too_few_speakers_or_utterances_to_validate(
    refused: Callable[..., str], tmp_path: Path, train: Path
) -> None:
    text = refused("--train", train, "--valid_speakers", 3)
    assert "valid_speakers is 3, which would leave 1 of the 4" in text
    text = refused("--train", train, "--valid_speakers", 20)
    assert "valid_speakers is 20, but only 4 of the 4" in text
    single = tree(tmp_path / "single", 6, utterances=1)
    assert "only 0 of the 6 training speakers have two" in refused("--train", single)
    names = write_list(tmp_path / "names", *(f"spk{number:02}" for number in range(4)))
    text = refused("--train", train, "--exclude_speakers", names)
    assert "names all speakers" in text


def test_groups_of_speakers_that_cannot_be(
    refused: Callable[..., str], tmp_path: Path, train: Path
) -> None:
    names = tmp_path / "spk2gender"
    options = ["--train", train, "--speaker_groups", names]
    assert f"{names}" in refused(*options)
    write_list(names, "spk00 f", "spk01")
    assert f"{names}:2: 'spk01' does not give" in refused(*options)
    write_list(names, "spk00 f", "spk00 m")
    assert f"{names}:2: 'spk00 m' does not give" in refused(*options)
    write_list(names, "spk00 f", "spk02 f")
    text = refused(*options)
    assert f"{names}: 2 speakers below --train have no group there: spk01, spk03" in text
    write_list(names, *(f"spk0{number} {number}" for number in range(4)))
    assert "no non-target trial" in refused(*options)


def test_test_speakers_in_training(tmp_path: Path, refused: Callable[..., str]) -> None:
    train = tree(tmp_path / "train", 9)
    trials = write_list(
        tmp_path / "t.txt",
        "1 spk00/s0/0.wav spk00/s0/1.wav",
        *(f"0 spk00/s0/0.wav spk0{number}/s0/0.wav" for number in range(1, 7)),
    )
    options = ["--train", train, "--trials", trials, "--trials_root", train]
    text = refused(*options)
    assert f"{trials}: 7 of its 7 speakers are training speakers" in text
    assert "(spk00, spk01, spk02, spk03, spk04, …)" in text and "--allow_overlap" in text
    run(tmp_path / "corpus", *options, "--allow_overlap")
    folder = tmp_path / "corpus" / "manifests"
    assert json.loads((folder / "manifest.json").read_text())["overlap"] == 7
    # Leaving them out is the other way.
    names = write_list(tmp_path / "names", *(f"spk0{number}" for number in range(7)))
    tree(train, 3, first=20)
    run(tmp_path / "corpus", *options, "--exclude_speakers", names)
    assert json.loads((folder / "manifest.json").read_text())["overlap"] == 0


def test_tokens_without_a_file_or_with_an_unusable_one(
    tmp_path: Path, train: Path, refused: Callable[..., str]
) -> None:
    root = tree(tmp_path / "test", 2, first=90)
    trials = write_list(
        tmp_path / "t.txt",
        "1 spk90/s0/0.wav spk90/s0/1.wav",
        *(f"0 spk90/s0/0.wav spk91/s9/{number}.wav" for number in range(7)),
    )
    options = ["--train", train, "--trials", trials, "--trials_root", root]
    text = refused(*options)
    assert f"{trials}: 7 of its 9 utterances have no file below {root}" in text
    assert "(spk91/s9/0, spk91/s9/1, spk91/s9/2, spk91/s9/3, spk91/s9/4, …)" in text
    for number in range(7):
        speech(root / "spk91" / "s9" / f"{number}.wav", NOISE[:10] if number else NOISE)
    text = refused(*options)
    assert "6 of 9 utterances of the trial lists cannot be used" in text
    assert f"{root / 'spk91' / 's9' / '1.wav'} is too_short" in text


def test_trial_lists_that_cannot_be_used(
    tmp_path: Path, train: Path, refused: Callable[..., str]
) -> None:
    root = tree(tmp_path / "test", 2, first=90)
    third = write_list(tmp_path / "third.txt", "spk90/s0/0.wav,spk91/s0/0.wav,maybe")
    text = refused("--train", train, "--trials", third, "--trials_root", root)
    assert f"{third}:1: " in text
    targets = write_list(tmp_path / "only.txt", "spk90/s0/0 spk90/s0/1 target")
    text = refused("--train", train, "--trials", targets, "--trials_root", root)
    assert "has no non-target trial" in text
    (tmp_path / "b").mkdir()
    same = write_list(tmp_path / "b" / "only.txt", "1 spk90/s0/0 spk90/s0/1")
    text = refused("--train", train, "--trials", targets, same, "--trials_root", root)
    assert "both called 'only'" in text
    text = refused("--train", train, "--trials", same, same, "--trials_root", root)
    assert "both called 'only'" in text
    for name in ("valid", "speed", "only_fusion", "engines", "my_normalized"):
        taken = write_list(tmp_path / f"{name}.txt", "1 spk90/s0/0 spk90/s0/1")
        text = refused("--train", train, "--trials", taken, "--trials_root", root)
        assert "rename the list" in text
    missing = tmp_path / "missing.txt"
    assert "missing.txt" in refused("--train", train, "--trials", missing, "--trials_root", root)
    assert "needs --trials_root" in refused("--train", train, "--trials", same)
    assert "needs --trials," in refused("--train", train, "--trials_root", root)


def test_models_that_cannot_be_used(
    tmp_path: Path, train: Path, refused: Callable[..., str]
) -> None:
    root = tree(tmp_path / "test", 3, first=90)
    trials = write_list(tmp_path / "t.lst", "m0 spk90/s0/0.wav 1", "m1 spk90/s0/0.wav 0")
    enrol = tmp_path / "enroll.map"
    options = ["--train", train, "--trials", trials, "--trials_root", root, "--enrol", enrol]
    for lines, said in (
        (["m0 spk90/s0/1.wav"], f"{trials}: 1 of its 2 models are not in {enrol}: m1;"),
        (["m0 spk90/s0/1", "m1"], f"{enrol}:2: 'm1' names no utterance"),
        (["m0 spk90/s0/1", "m1 spk91/s0/1 spk92/s0/1"], "m1 has utterances of 2 speakers (spk91,"),
        (["m0 spk90/s0/1", "m1 spk91/s0/7"], "1 of its 3 utterances have no file below"),
        (["m0 spk90/s0/1", "m1 /data/7.wav"], f"{enrol}:2: '/data/7.wav' is not below {root}/"),
    ):
        write_list(enrol, *lines)
        assert said in refused(*options)
    write_list(enrol, "m7 spk90/s0/1")
    write_list(trials, "spk90/s0/0 spk90/s0/1 1", "spk90/s0/0 spk91/s0/1 0")
    assert f"{enrol}: no trial list has one of its models (m7" in refused(*options)
    assert "--enrol needs --trials" in refused("--train", train, "--enrol", enrol)


def test_exclusions_that_cannot_be_used(
    tmp_path: Path, train: Path, refused: Callable[..., str]
) -> None:
    names = tmp_path / "names"
    options = ["--train", train, "--exclude_speakers", names]
    for lines, said in (
        (["id1", "id2"], f"{names}: of its 2 entries, such as 'id1', none names a speaker below"),
        (["# nobody"], f"{names}: nothing names a speaker below --train, such as 'spk00'"),
        (["spk01", "spk02, spk03"], f"{names}:2: 'spk02, spk03' may name spk02 or spk03; write"),
        (["spk01 spk02"], f"{names}:1: 'spk01 spk02' may name spk01 or spk02; write one"),
    ):
        write_list(names, *lines)
        assert said in refused(*options)
    names.write_bytes(b"spk01\n\xff\xfe\n")
    assert f"{names}: the list of speakers is not UTF-8 text" in refused(*options)
    speech(train / "SPK01" / "s0" / "0.wav")
    write_list(names, "Spk01")
    assert f"{names}:1: 'Spk01' may name SPK01 or spk01" in refused(*options)
    write_list(names, "spk01", "SPK02", "SPK03")
    assert "valid_speakers" in refused(*options)  # which is what is left: SPK01 and spk00


def test_options_and_settings(refused: Callable[..., str], train: Path, tmp_path: Path) -> None:
    assert "--vald_speakers" in refused("--train", train, "--vald_speakers", 3)
    assert "'many'" in refused("--train", train, "--valid_speakers", "many")
    assert "--jobs is 0" in refused("--train", train, "--jobs", 0)
    assert "valid_speakers is 1" in refused("--train", train, "--valid_speakers", 1)
    assert "nobody" in refused("--train", train, "--exclude_speakers", tmp_path / "nobody")
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "corpus.json").write_text("{")
    assert "corpus.json" in refused("--train", train)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("valid_seed", "valid_sead", ("unknown-key", "'valid_sead'")),
        ("valid_seed: 1234\n", "", ("missing-key", "'valid_seed'")),
        (
            "min_seconds: 0.3",
            "min_seconds: short",
            ("bad-setting", "min_seconds is 'short'", "number"),
        ),
        ("valid_speakers: 20", "valid_speakers: 2.5", ("bad-setting", "2.5", "whole number")),
        ("valid_speakers: 20", "valid_speakers: [", ("bad-yaml", "m.yaml")),
    ],
)
def test_yaml_faults(tmp_path: Path, old: str, new: str, told: tuple[str, ...]) -> None:
    path = tmp_path / "m.yaml"
    text = YAML.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with refusals.refused(*told):
        load_manifest_settings(path, {})
    with refusals.refused("unreadable-file", "no.yaml"):
        load_manifest_settings(tmp_path / "no.yaml", {})
