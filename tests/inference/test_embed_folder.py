"""Audio of every kind, trees with loops, and embeddings under matching names."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor, nn

from speechbrain_ext.audio_files import list_audio_files
from speechbrain_ext.inference import embed_folder as folder
from speechbrain_ext.inference.embed_folder import batches_of, embed_folder
from speechbrain_ext.verification.embeddings import load_embeddings
from tests.refusals import refused


class Moments(nn.Module):
    """Embeds a waveform by its length, mean and level; below 100 samples an error."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def forward(self, wavs: Tensor, lengths: Tensor | None = None) -> Tensor:
        self.batches.append(len(wavs))
        if lengths is None:
            lengths = torch.ones(len(wavs))
        samples = torch.round(lengths * wavs.shape[1])
        if bool((samples == 333).any()):
            raise RuntimeError("the network dislikes 333 samples")
        level = wavs.square().sum(1) / samples
        level[samples == 444] = torch.nan
        return torch.stack([samples, wavs.sum(1) / samples, level], dim=1)[:, None]


def write(path: Path, samples: int, rate: int = 16000, channels: int = 1, **options: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(samples).uniform(-0.5, 0.5, (samples, channels))
    soundfile.write(path, noise, rate, **options)
    return path


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    """Files that can be embedded, files that cannot, and others."""
    root = tmp_path / "audio"
    write(root / "a/b/c.flac", 3000)
    write(root / "a/telephone.wav", 4000, 8000)
    write(root / "a/stereo.OGG", 8820, 44100, 2)
    write(root / "d.v1.aiff", 500, 48000, 6)
    write(root / "short.wav", 50)
    write(root / "disliked.wav", 333)
    write(root / "undefined.wav", 444)
    write(root / "no_samples.wav", 0)
    (root / "no_bytes.wav").touch()
    (root / "text.wav").write_text("this is no audio")
    whole = write(root / "cut.flac", 30000).read_bytes()
    (root / "cut.flac").write_bytes(whole[: len(whole) // 2])
    soundfile.write(root / "silent.wav", np.zeros(2000), 16000)
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (2000, 1))
    soundfile.write(root / "anti-phase.wav", noise * [1, -1], 16000)
    soundfile.write(root / "nan.wav", np.array([0.0, np.nan] * 200), 16000, subtype="FLOAT")
    (root / "gone.wav").symlink_to(root / "nowhere.wav")
    (root / "itself.wav").symlink_to(root / "itself.wav")
    (root / "notes.txt").write_text("notes")
    (root / "subtitles.srt").touch()
    (root / "._c.flac").touch()
    return root


FAILED = {
    "short.wav": "too_short",
    "disliked.wav": "model",
    "undefined.wav": "not_finite",
    "no_samples.wav": "empty",
    "no_bytes.wav": "empty",
    "text.wav": "unreadable",
    "cut.flac": "unreadable",
    "silent.wav": "silent",
    "anti-phase.wav": "silent",
    "nan.wav": "not_finite",
    "gone.wav": "unreadable",
    "itself.wav": "unreadable",
}


@pytest.mark.parametrize("threads", [0, 3])
def test_everything_is_embedded_or_named(audio: Path, tmp_path: Path, threads: int) -> None:
    out = tmp_path / "out"
    network = Moments()
    report = embed_folder(network, audio, out, least_samples=100, num_workers=threads)
    assert (report.written, report.present) == (4, 0)
    assert {failure.path: failure.cause for failure in report.failures} == FAILED
    assert dict(report.ignored) == {".txt": 1, ".srt": 1, "hidden": 1}
    found = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert found == {
        *("a/b/c.flac.npy", "a/telephone.wav.npy", "a/stereo.OGG.npy", "d.v1.aiff.npy"),
        *("failures.tsv", "embeddings.jsonl", "embeddings.npz"),
    }
    for name, samples in (("a/b/c.flac", 3000), ("a/telephone.wav", 8000), ("a/stereo.OGG", 3200)):
        vector = np.load(out / f"{name}.npy")
        assert vector.shape == (3,) and vector.dtype == np.float32
        assert vector[0] == samples and math.isfinite(vector[1])
    assert max(network.batches) > 1
    table = (out / "failures.tsv").read_text().splitlines()
    assert table[0] == "path\tcause\tdetail"
    rows = dict(line.split("\t")[:2] for line in table[1:])
    assert rows == FAILED and table[1:] == sorted(table[1:])
    details = {line.split("\t")[0]: line.split("\t")[2] for line in table[1:]}
    assert details["short.wav"] == "50 samples at 16000 Hz, fewer than 100"
    assert details["disliked.wav"] == "the network dislikes 333 samples"
    assert details["gone.wav"] == "No such file or directory"


def test_a_batch_is_that_of_files_alone(audio: Path, tmp_path: Path) -> None:
    """A file that fails takes none with it, and padding is not taken for speech."""
    embed_folder(Moments(), audio, tmp_path / "together", least_samples=100)
    embed_folder(Moments(), audio, tmp_path / "alone", least_samples=100, max_batch_seconds=1e-9)
    for path in sorted((tmp_path / "alone").rglob("*.npy")):
        other = np.load(tmp_path / "together" / path.relative_to(tmp_path / "alone"))
        np.testing.assert_allclose(np.load(path), other, rtol=1e-5, atol=1e-6)


def test_run_again_does_what_is_left(audio: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    embed_folder(Moments(), audio, out, least_samples=100)
    before = (out / "d.v1.aiff.npy").stat().st_mtime_ns
    for name in FAILED:
        (audio / name).unlink()
    (out / "a/b/c.flac.npy").unlink()
    # Another recording in its place, which may be an older one.
    path = write(audio / "a/telephone.wav", 4200, 8000)
    os.utime(path, ns=(1_000_000_000, 1_000_000_000))
    # A line that was not finished.
    with open(out / "embeddings.jsonl", "a") as record:
        record.write('["a/ster')
    report = embed_folder(Moments(), audio, out, least_samples=100)
    assert (report.written, report.present, report.removed) == (2, 2, 0) and not report.failures
    assert np.load(out / "a/telephone.wav.npy")[0] == 8400
    assert (out / "d.v1.aiff.npy").stat().st_mtime_ns == before
    assert not (out / "failures.tsv").exists()
    assert embed_folder(Moments(), audio, out, least_samples=100).present == 4


def samples_of(out: Path) -> dict[str, int]:
    """The length that each embedding tells, by its name."""
    return {path.relative_to(out).as_posix(): int(np.load(path)[0]) for path in out.rglob("*.npy")}


def test_what_is_there_is_true_of_the_audio_as_it_is(tmp_path: Path) -> None:
    root, out = tmp_path / "in", tmp_path / "out"
    for name, samples in (("c.wav", 1000), ("gone.wav", 1001), ("a/bad.wav", 1002)):
        write(root / name, samples)
    embed_folder(Moments(), root, out)
    np.save(out / "of_the_user.npy", np.zeros(1))
    # A second form of one, the end of another, and one that is broken now.
    write(root / "c.flac", 1003)
    (root / "gone.wav").unlink()
    (root / "a/bad.wav").write_text("no audio")
    report = embed_folder(Moments(), root, out)
    assert (report.written, report.present, report.removed) == (1, 1, 2)
    assert [failure.path for failure in report.failures] == ["a/bad.wav"]
    assert samples_of(out) == {"c.wav.npy": 1000, "c.flac.npy": 1003, "of_the_user.npy": 0}
    assert embed_folder(Moments(), root, out).removed == 0


def test_of_a_folder_that_cannot_be_listed_nothing_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "in/a/1.wav", 1000)
    embed_folder(Moments(), tmp_path / "in", tmp_path / "out")
    listed = os.scandir

    def refuse(folder: Any) -> Any:
        if str(folder).endswith("/in/a"):
            raise PermissionError(13, "Permission denied")
        return listed(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    report = embed_folder(Moments(), tmp_path / "in", tmp_path / "out")
    assert [failure.path for failure in report.failures] == ["a"]
    assert samples_of(tmp_path / "out") == {"a/1.wav.npy": 1000}
    monkeypatch.undo()
    assert embed_folder(Moments(), tmp_path / "in", tmp_path / "out").present == 1


def test_a_folder_holds_the_embeddings_of_one_folder(tmp_path: Path) -> None:
    facts: dict[str, Any] = dict.fromkeys(("model", "view", "weights_sha256"), "x")
    facts |= {"made_by": "embed.py", "probe": [1.0]}
    for name in ("one", "other"):
        write(tmp_path / name / "a.wav", 1000)
    embed_folder(Moments(), tmp_path / "one", tmp_path / "out", facts)
    with refused("other-inputs", tmp_path / "one", tmp_path / "other"):
        embed_folder(Moments(), tmp_path / "other", tmp_path / "out", facts)
    (tmp_path / "linked").symlink_to(tmp_path / "one")
    assert embed_folder(Moments(), tmp_path / "linked", tmp_path / "out", facts).present == 1


def test_names_that_differ_in_their_endings(tmp_path: Path) -> None:
    for number, name in enumerate(("c.flac", "c.wav", "c.flac.wav", "c.1.wav", "c.2.wav")):
        write(tmp_path / "in" / name, 1000 + number)
    assert embed_folder(Moments(), tmp_path / "in", tmp_path / "out").written == 5
    assert samples_of(tmp_path / "out") == {
        "c.flac.npy": 1000, "c.wav.npy": 1001, "c.flac.wav.npy": 1002, "c.1.wav.npy": 1003,
        "c.2.wav.npy": 1004,
    }  # fmt: skip


def test_all_of_them_in_one_file(tmp_path: Path) -> None:
    """By the names of lists; what is there follows the audio as the single files do."""
    root, out = tmp_path / "in", tmp_path / "out"
    for number, name in enumerate(("a/c.flac", "a/c.wav", "a/d.ogg", "Rene\u0301.wav")):
        write(root / name, 1000 + number)
    os.replace(write(root / "x.wav", 1010), os.path.join(os.fsencode(root), b"caf\xe9.wav"))
    facts: dict[str, Any] = dict.fromkeys(("model", "weights_sha256"), "x")
    facts |= {"made_by": "embed.py", "view": "full", "probe": [1.0]}
    odd = os.fsdecode(b"caf\xe9")

    def found() -> dict[str, int]:
        kept = load_embeddings(out / "embeddings.npz")
        assert kept.weights_sha256 == "x" and str(kept.provenance["view"]) == "full"
        return dict(zip(kept.ids, kept.vectors[:, 0].astype(int).tolist(), strict=True))

    embed_folder(Moments(), root, out, facts)
    assert found() == {"Ren\u00e9": 1003, "a/c": 1001, "a/d": 1002, odd: 1010}
    before = (out / "embeddings.npz").stat().st_ino
    embed_folder(Moments(), root, out, facts)
    assert (out / "embeddings.npz").stat().st_ino == before
    (root / "a/c.wav").unlink()
    write(root / "a/e.wav", 1020)
    embed_folder(Moments(), root, out, facts)
    assert found() == {"Ren\u00e9": 1003, "a/c": 1000, "a/d": 1002, "a/e": 1020, odd: 1010}
    (out / "a/e.wav.npy").write_bytes(b"")
    (out / "embeddings.npz").unlink()
    with refused("damaged-file", "e.wav.npy"):
        embed_folder(Moments(), root, out, facts)


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "in", tmp_path / "elsewhere"
    write(root / "a/1.wav", 500)
    write(elsewhere / "2.wav", 500)
    (root / "linked").symlink_to(elsewhere)
    (root / "a" / "up").symlink_to(root)
    (elsewhere / "back").symlink_to(root / "a")
    (root / "a" / "one.wav").symlink_to(elsewhere / "2.wav")
    tree = list_audio_files(root, root / "out")
    assert tree.files == [
        *("a/1.wav", "a/one.wav", "linked/2.wav", "linked/back/1.wav", "linked/back/one.wav")
    ]
    # The folder of results may lie inside.
    embed_folder(Moments(), root, root / "out")
    assert list_audio_files(root, root / "out").ignored == {}


def test_names_that_are_no_text(tmp_path: Path) -> None:
    root = os.fsencode(tmp_path / "in")
    os.mkdir(root)
    for name in (b"caf\xe9.wav", "tab\t\u00e9 \u8a9e.wav".encode()):
        os.replace(write(tmp_path / "x.wav", 500), os.path.join(root, name))
    (tmp_path / "in" / os.fsdecode(b"bad\xff\t.wav")).touch()
    report = embed_folder(Moments(), tmp_path / "in", tmp_path / "out")
    assert report.written == 2
    assert sorted(os.listdir(os.fsencode(tmp_path / "out")))[0] == b"caf\xe9.wav.npy"
    text = (tmp_path / "out" / "failures.tsv").read_text()
    assert text.splitlines()[1] == "bad\\udcff\\t.wav\tempty\t0 bytes"


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    with refused("missing-folder", tmp_path / "nowhere"):
        embed_folder(Moments(), tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "in").mkdir()
    with refused("no-audio", tmp_path / "in"):
        embed_folder(Moments(), tmp_path / "in", tmp_path / "out")
    (tmp_path / "in" / "a.txt").touch()
    with refused("no-audio", tmp_path / "in", "1 .txt"):
        embed_folder(Moments(), tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_name_that_cannot_be_written_is_a_failure(tmp_path: Path) -> None:
    """A folder called like an embedding stands in the way of it."""
    write(tmp_path / "in" / "x.wav", 500)
    write(tmp_path / "in" / "x.wav.npy" / "y.wav", 400)
    report = embed_folder(Moments(), tmp_path / "in", tmp_path / "out", max_batch_seconds=0.01)
    assert report.written == 1
    assert [failure.cause for failure in report.failures] == ["output"]


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory.")])
def test_want_of_memory_is_a_files_own_failure(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "in" / "long.wav", 2000)
    write(tmp_path / "in" / "short.wav", 500)
    forward = Moments.forward

    def limited(self: Moments, wavs: Tensor, lengths: Tensor | None = None) -> Tensor:
        if wavs.numel() > 1000:
            raise error
        return forward(self, wavs, lengths)

    monkeypatch.setattr(Moments, "forward", limited)
    report = embed_folder(Moments(), tmp_path / "in", tmp_path / "out")
    assert samples_of(tmp_path / "out") == {"short.wav.npy": 500}
    assert [(failure.path, failure.cause) for failure in report.failures] == [
        ("long.wav", "memory")
    ]


def test_a_full_disk_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "in" / "x.wav", 500)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder.np, "save", full)
    with refused("unwritable", "x.wav.npy", "No space left on device"):
        embed_folder(Moments(), tmp_path / "in", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["embeddings.jsonl"]


def test_batches_are_of_like_length_and_bounded() -> None:
    seconds = {"long": 3600.0, "a": 3.0, "b": 2.5, "c": 2.0, "d": 0.5, "unknown": math.inf}
    assert batches_of(seconds, 6.0) == [["unknown"], ["long"], ["a", "b"], ["c", "d"]]
    assert max(map(len, batches_of({str(n): 0.0 for n in range(1000)}, 60.0))) == 256
