"""Galleries: enrolled speakers are found, strangers are not, and no kill or second writer harms."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from speechbrain_ext.errors import UserError
from speechbrain_ext.runtime import Gallery, SpeakerModel, load_model
from speechbrain_ext.runtime.heard import Heard
from speechbrain_ext.runtime.speakers import FORMAT, Speakers
from tests.processes import HANG, ROOT, environment
from tests.refusals import refused
from tests.runtime.models import DIM, make_model, voice


@pytest.fixture(scope="module")
def model(folder: Path) -> SpeakerModel:
    return load_model(folder)


@pytest.fixture
def gallery(model: SpeakerModel, tmp_path: Path) -> Gallery:
    return Gallery.open(tmp_path / "team.gallery", model)


def heard(numbers: np.ndarray, speech: float = 5.0) -> Heard:
    return Heard(numbers.astype(np.float32), 6.0, speech, "energy")


def test_who_is_enrolled_is_found_and_a_stranger_is_not(gallery: Gallery) -> None:
    for speaker in range(5):
        done = gallery.enroll(f"speaker {speaker}", [voice(speaker), voice(speaker, 1)])
        assert done.recordings == 2 and done.seconds_of_speech > 4 and done.vad
    assert gallery.names() == [f"speaker {speaker}" for speaker in range(5)]
    found = gallery.identify(voice(3, 2), top=2)
    assert found.name == "speaker 3" and len(found.ranked) == 2 and found.speakers == 5
    assert found.ranked[0][1] > found.ranked[1][1] and found.operating_point == "false_alarm_0.01"
    stranger = gallery.identify(voice(77))
    assert stranger.name is None and stranger.ranked[0][1] < stranger.threshold
    gallery.remove("speaker 3")
    assert gallery.identify(voice(3, 2)).ranked[0][0] != "speaker 3"
    with refused("unknown-name", "speaker 3"):
        gallery.remove("speaker 3")


def test_a_speaker_is_the_mean_of_unit_embeddings(gallery: Gallery) -> None:
    axes = np.eye(DIM)
    gallery.enroll("a", [heard(9 * axes[0]), heard(axes[1])])
    found = gallery.identify(heard(axes[0]))
    ((name, score),) = found.ranked
    assert name == "a" and score == pytest.approx(np.sqrt(0.5), abs=1e-6)


def test_the_same_recording_again_changes_nothing(gallery: Gallery) -> None:
    once = gallery.enroll("a", [voice(1)])
    for _ in range(2):
        assert gallery.enroll("a", [voice(1), voice(1)]) == once
    assert gallery.enroll("a", voice(1, 1)).recordings == 2  # one need not be a list


def test_too_little_speech_is_told_in_seconds(gallery: Gallery) -> None:
    short = heard(np.eye(DIM)[0], 1.2)
    with refused("little-speech", "1.2 s", "energy", "3 s", "1.8 s more"):
        gallery.enroll("a", [short])
    assert gallery.names() == [] and not gallery.path.exists()
    gallery.enroll("a", [heard(np.eye(DIM)[1])])
    assert gallery.enroll("a", [short]).seconds_of_speech == pytest.approx(6.2)
    gallery.enroll("b", [short], least_speech=1)


def test_several_are_enrolled_in_one_step_or_none(gallery: Gallery, tmp_path: Path) -> None:
    with refused("unusable-audio", tmp_path / "no.wav"):
        gallery.enroll_all({"a": [voice(1)], "b": [tmp_path / "no.wav"]})
    with refused("missing-option", "b"):
        gallery.enroll_all({"a": [voice(1)], "b": []})
    assert gallery.names() == []


@pytest.mark.parametrize("name", ["../../etc/passwd", "/tmp/x", "René 🎤", "a.npz", "%s{0}$(x)"])
def test_names_are_text_and_never_paths(gallery: Gallery, name: str) -> None:
    gallery.enroll(name, [voice(1)])
    gallery.enroll(f" {name} ", [voice(1, 1)])
    assert gallery.names() == [name]
    assert gallery.identify(voice(1, 2)).name == name
    assert [path.name for path in gallery.path.parent.iterdir()] == [gallery.path.name]
    gallery.remove(name)
    assert gallery.names() == []


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "a\tb", "a\0b", "x" * 201, "\u202eabc"])
def test_names_that_are_none(gallery: Gallery, name: str) -> None:
    with refused("bad-name"):
        gallery.enroll(name, [voice(1)])


def test_a_gallery_of_another_model_is_refused(gallery: Gallery, tmp_path: Path) -> None:
    gallery.enroll("a", [voice(1)])
    other = load_model(make_model(tmp_path / "other", seed=1))
    with refused("other-weights", gallery.path, gallery.model.digest[:12], other.digest[:12]):
        Gallery.open(gallery.path, other)


def test_a_teacher_enrols_and_its_student_verifies(tmp_path: Path) -> None:
    teacher = load_model(make_model(tmp_path / "teacher", seed=1, weights_sha256="1234"))
    student = load_model(make_model(tmp_path / "student", seed=2, taught_by="1234"))
    stranger = load_model(make_model(tmp_path / "stranger", seed=3, weights_sha256="9"))
    path = tmp_path / "team.gallery"
    Gallery.open(path, student, enroll_with=teacher).enroll("a", [voice(1)])
    gallery = Gallery.open(path, student)
    assert gallery.identify(voice(1, 1)).name == "a"
    np.testing.assert_allclose(gallery._refresh().vectors[0], teacher.embed(voice(1)), atol=1e-6)
    with refused("other-weights", path, teacher.digest[:12], student.digest[:12]):
        gallery.enroll("b", [voice(2)])
    with refused("no-teacher"):
        Gallery.open(path, student, enroll_with=stranger)


def test_nobody_enrolled_and_no_gallery(gallery: Gallery, tmp_path: Path) -> None:
    with refused("unknown-name", gallery.path):
        gallery.identify(voice(1))
    text = tmp_path / "text.gallery"
    for content in (b"no gallery", b"PK\x03\x04 broken", b""):
        text.write_bytes(content)
        with refused("damaged-file", text):
            Gallery.open(text, gallery.model)
    np.savez(tmp_path / "pickle.npz", about=np.array([{}], dtype=object))
    with refused("damaged-file", tmp_path / "pickle.npz"):
        Gallery.open(tmp_path / "pickle.npz", gallery.model)
    np.savez(tmp_path / "other.npz", about=np.frombuffer(b"{}", dtype=np.uint8))
    with refused("damaged-file", tmp_path / "other.npz"):
        Gallery.open(tmp_path / "other.npz", gallery.model)


@pytest.mark.parametrize("about", [b"5", b'"text"', 9**5 * b"["])
def test_a_gallery_that_says_nonsense_is_none(gallery: Gallery, about: bytes) -> None:
    said, none = np.frombuffer(about, dtype=np.uint8), np.zeros(0)
    path = gallery.path.with_suffix(".npz")
    np.savez(path, about=said, owners=none, vectors=np.zeros((0, DIM)), speech=none)
    with refused("damaged-file", path):
        Gallery.open(path, gallery.model)


def test_a_gallery_damaged_anywhere_is_read_or_refused(gallery: Gallery) -> None:
    gallery.enroll("a", [voice(1), voice(1, 1)])
    whole, chance = gallery.path.read_bytes(), np.random.default_rng(0)
    places = [len(whole) - 1 - at for at in range(400)]  # how each array is packed, among it
    for at in (*places, *chance.integers(len(whole), size=400)):
        damaged = bytearray(whole)
        damaged[at] = chance.integers(256)
        gallery.path.write_bytes(damaged)
        with contextlib.suppress(UserError):
            Gallery.open(gallery.path, gallery.model).identify(voice(1), threshold=0.5)


def test_embeddings_of_another_size_are_refused(gallery: Gallery) -> None:
    about = {"format": FORMAT, "digest": gallery.model.digest, "model": "", "enroller": ""}
    kept = Speakers(["a"], np.zeros(1, np.int64), np.ones((1, DIM + 1), np.float32), np.ones(1))
    kept.about = about
    kept.write(gallery.path)
    with refused("damaged-file", f"{DIM + 1} numbers", str(DIM)):
        gallery.identify(voice(1))


def test_places_where_no_gallery_can_be(
    model: SpeakerModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with refused("unreadable-file", tmp_path / "file" / "team.gallery", "Not a directory"):
        Gallery.open(tmp_path / "file" / "team.gallery", model)
    monkeypatch.setenv("HOME", str(tmp_path))
    Gallery.open("~/team.gallery", model).enroll("a", [voice(1)])
    assert (tmp_path / "team.gallery").is_file()


@pytest.mark.parametrize("name", ["env", "team.gallery"])
def test_other_files_stay(model: SpeakerModel, tmp_path: Path, name: str) -> None:
    """What a killed writer left goes, and nothing else that is called alike."""
    path = Path(name)
    left = tmp_path / f".{path.stem}.4711{path.suffix}"
    others = [tmp_path / f".{path.stem}.{word}{path.suffix}" for word in ("local", "4711.b", "47x")]
    for each in (left, *others):
        each.touch()
    Gallery.open(tmp_path / name, model).enroll("a", [voice(1)])
    assert set(tmp_path.iterdir()) == {tmp_path / name, *others}


def test_a_change_by_another_process_is_seen(gallery: Gallery) -> None:
    gallery.enroll("a", [voice(1)])
    other = Gallery.open(gallery.path, gallery.model)
    other.enroll("b", [voice(2)])
    assert gallery.names() == ["a", "b"] and gallery.identify(voice(2, 1)).name == "b"
    gallery.path.unlink()
    assert other.names() == []


ENROLL = """
import sys
import numpy as np
from speechbrain_ext.runtime import Gallery, load_model
from speechbrain_ext.runtime.heard import Heard
gallery = Gallery.open(sys.argv[2], load_model(sys.argv[1]))
first, last = int(sys.argv[3]), int(sys.argv[4])
for n in range(first, last):
    embedding = np.random.default_rng(n).normal(size=16).astype(np.float32)
    gallery.enroll(f"{n:04d}", [Heard(embedding, 5.0, 5.0, "energy")])
    print(n, flush=True)
"""


def enroller(folder: Path, gallery: Path, first: int, last: int) -> subprocess.Popen[str]:
    """A process that enrols the speakers first to last, and prints each."""
    command = [sys.executable, "-c", ENROLL, str(folder), str(gallery), str(first), str(last)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment(), cwd=ROOT)


def test_two_processes_enrol_and_nobody_is_lost(
    folder: Path, model: SpeakerModel, tmp_path: Path
) -> None:
    path = tmp_path / "team.gallery"
    both = [enroller(folder, path, first, first + 100) for first in (0, 500)]
    for process in both:
        process.communicate(timeout=HANG)
        assert process.returncode == 0
    expected = [f"{n:04d}" for n in (*range(100), *range(500, 600))]
    assert Gallery.open(path, model).names() == expected


def test_a_kill_leaves_a_state_between_two_enrolments(
    folder: Path, model: SpeakerModel, tmp_path: Path
) -> None:
    """At 20 moments among 1,000 enrolments, each run going on where the one before was killed."""
    path, moments = tmp_path / "team.gallery", random.Random(0)
    enrolled = 0
    for _ in range(20):
        process = enroller(folder, path, enrolled, 1000)
        assert process.stdout is not None
        told = enrolled - 1
        for _ in range(moments.randrange(1, 50)):
            told = int(process.stdout.readline() or told)
        time.sleep(moments.uniform(0, 0.004))
        os.kill(process.pid, signal.SIGKILL)
        rest = process.communicate()[0].split()
        told = int(rest[-1]) if rest else told
        names = Gallery.open(path, model).names()
        # What was told is there, and of the one in progress all or nothing.
        assert names == [f"{n:04d}" for n in range(len(names))]
        assert told + 1 <= len(names) <= told + 2
        enrolled = len(names)
    kept = Gallery.open(path, model)._refresh()
    for row, owner in enumerate(kept.owners):
        expected = np.random.default_rng(int(kept.names[owner])).normal(size=16)
        np.testing.assert_array_equal(kept.vectors[row], expected.astype(np.float32))
    Gallery.open(path, model).enroll("last", [voice(1)])
    assert [each.name for each in tmp_path.iterdir()] == [path.name]  # nor is anything left beside


def test_about_is_json_that_anybody_reads(gallery: Gallery) -> None:
    gallery.enroll("a", [voice(1)])
    with np.load(gallery.path, allow_pickle=False) as arrays:
        about = json.loads(arrays["about"].tobytes())
    assert about["names"] == ["a"] and about["digest"] == gallery.model.digest
    assert about["model"] == "tones waveform.onnx"


def test_a_thread_that_read_earlier_hides_nobody(model: SpeakerModel, tmp_path: Path) -> None:
    """Threads of the service share a gallery; one of them may store what it read at any moment."""

    class Shared(Gallery):
        read_earlier: dict[str, object] | None = None

        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, value)
            if Shared.read_earlier is not None:
                earlier, Shared.read_earlier = Shared.read_earlier, None
                self.__dict__.update(earlier)

    gallery = Shared(tmp_path / "gallery", model)
    gallery.enroll("a", [heard(np.eye(DIM)[0])])
    Shared.read_earlier = dict(gallery.__dict__)
    gallery.enroll("b", [heard(np.eye(DIM)[1])])
    assert Shared.read_earlier is None
    gallery.enroll("c", [heard(np.eye(DIM)[2])])
    assert gallery.names() == ["a", "b", "c"]
