"""A cache is made once, by any number of runs, and refused when it is stale."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor, nn

from speechbrain_ext.distill import embedding_cache
from speechbrain_ext.distill.embedding_cache import UNFINISHED, WHOLE, Windows, cached_embeddings
from speechbrain_ext.inference.extraction import embed_batch
from speechbrain_ext.interfaces import FrontEnd, Lobe
from speechbrain_ext.lobes.encoders import SpeakerEncoder
from speechbrain_ext.lobes.features import LogMel, PassThrough, Waveforms
from speechbrain_ext.lobes.lstm_autoencoder import LSTMAutoencoder
from speechbrain_ext.nnet.normalization import UtteranceNorm
from tests.distill.test_windows import write_manifest
from tests.recipe.kills import Moment, Moments
from tests.refusals import refused


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return write_manifest(tmp_path)


def make_encoder() -> SpeakerEncoder:
    torch.manual_seed(0)
    network = LSTMAutoencoder(conv_channels=16, latent_size=8, lstm_size=8, lin_neurons=12)
    return SpeakerEncoder(LogMel(), UtteranceNorm(), network).eval()


# Making it


@pytest.mark.parametrize("window", [None, 0.5])
def test_rows_are_what_the_network_gives_of_each_window(
    manifest: Path, window: float | None
) -> None:
    encoder, windows = make_encoder(), Windows(manifest, [1.0, 1.1], window, 0.3)
    table = cached_embeddings(encoder, windows, manifest.parent / "cache", max_batch_seconds=1.5)
    signals = windows.read(range(len(windows)))
    alone = [encoder(signal[None]).detach().numpy()[0, 0] for signal in signals]
    assert table.dtype == np.float32 and np.abs(table - np.stack(alone)).max() < 1e-5


def test_the_network_runs_once(manifest: Path) -> None:
    windows, path, calls = Windows(manifest), manifest.parent / "deep" / "cache", []
    tables = []
    for _ in range(2):
        encoder = make_encoder()
        encoder.embedding_model.register_forward_hook(lambda _, x, y: calls.append(y.shape[0]))
        tables.append(cached_embeddings(encoder, windows, path))
    assert calls == [1, 4, 1]  # to know the teacher, a batch, to know the teacher
    assert np.array_equal(tables[0], tables[1])
    assert sorted(file.name for file in (path / "whole").iterdir()) == [
        ".lock",
        WHOLE,
        "made_from.npz",
    ]


def test_processes_that_read_ahead_change_nothing(manifest: Path) -> None:
    windows, encoder = Windows(manifest, seconds=0.3, hop=0.1), make_encoder()
    one, other = (
        cached_embeddings(encoder, windows, manifest.parent / f"{count}", 1.0, count)
        for count in (0, 2)
    )
    assert np.array_equal(one, other)


def test_a_process_that_looks_late_leaves_out_nothing(
    manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows, there = Windows(manifest, seconds=0.3, hop=0.1), []
    rows = np.zeros(len(windows), dtype=bool)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    for rank in (0, 1):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        batches = embedding_cache._Missing(windows, rows, max_batch_seconds=0.6)
        there += [batches.mine]
        first = batches.order[: batches.begins[1]]
        rows[first] = True  # by the first process, before the second one looks
    assert sorted(np.concatenate(there)) == list(range(len(batches.begins) - 1))


# Kills


def in_a_fork(work: Callable[[int], object]) -> str:
    """Do something in a process of its own, which may be killed; give what it wrote."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work(writer)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writer)
    with open(reader, encoding="utf-8") as pipe:
        told = pipe.read()
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL)
    return told


def make_until(folder: Path, manifest: Path, fatal: Moment | None) -> dict[str, int]:
    """Make a cache in a process of its own, and kill that; how often it came to each place."""

    def make(writer: int) -> None:
        own = folder / "0.4s_every_0.1s"
        moments = Moments(own, fatal, lambda _: None)
        sys.addaudithook(moments.audit)

        def watched(encoder: nn.Module, batch: Any, device: Any) -> dict[str, np.ndarray]:
            vectors = embed_batch(encoder, batch, device)

            def write_half() -> None:
                number, vector = next(iter(vectors.items()))
                table = np.load(own / UNFINISHED, mmap_mode="r+")
                table[int(number), :5] = vector[:5]

            moments.reached("embedding", write_half)
            return vectors

        embedding_cache.embed_batch = watched  # type: ignore[assignment]
        windows = Windows(manifest, seconds=0.4, hop=0.1)
        cached_embeddings(make_encoder(), windows, folder, max_batch_seconds=1.7)
        os.write(writer, json.dumps(moments.counts).encode())

    told = in_a_fork(make)
    assert bool(told) == (fatal is None)
    return json.loads(told or "{}")


@pytest.mark.slow
def test_a_cache_that_was_killed_at_any_moment_ends_as_an_undisturbed_one(
    manifest: Path, tmp_path: Path
) -> None:
    counts = make_until(tmp_path / "undisturbed", manifest, None)
    expected = (tmp_path / "undisturbed/0.4s_every_0.1s" / WHOLE).read_bytes()
    assert counts["embedding"] >= 4
    moments = [Moment(place, n + 1) for place, count in counts.items() for n in range(count)]
    for moment in moments:
        folder = tmp_path / f"{moment.place}_{moment.number}"
        make_until(folder, manifest, moment)
        whole = folder / "0.4s_every_0.1s" / WHOLE
        assert not whole.exists()
        left = make_until(folder, manifest, None)
        assert whole.read_bytes() == expected, moment
        assert not whole.with_name(UNFINISHED).exists()
        if moment.place == "embedding":  # what was there was not made again
            assert left["embedding"] == counts["embedding"] - moment.number + 1


def test_a_training_that_waits_finds_what_another_made(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows, folder = Windows(manifest), tmp_path / "cache" / "whole"
    expected = np.array(cached_embeddings(make_encoder(), windows, folder.parent))
    (folder / WHOLE).rename(folder / UNFINISHED)
    program = (
        "import sys\nfrom speechbrain_ext.files import claimed\n"
        "with claimed(sys.argv[1], ''):\n print(flush=True)\n input()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program, folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert other.stdin and other.stdout
    waits: list[float] = []

    def wait(seconds: float) -> None:
        assert not waits
        waits.append(seconds)
        (folder / UNFINISHED).rename(folder / WHOLE)
        other.communicate(b"\n")

    with other:
        other.stdout.readline()
        monkeypatch.setattr(time, "sleep", wait)
        found = cached_embeddings(make_encoder(), windows, folder.parent)
        assert np.array_equal(found, expected)
    assert len(waits) == 1


@pytest.mark.slow
def test_a_full_disk_is_told_before_anything_is_embedded(manifest: Path, tmp_path: Path) -> None:
    program = """
import resource, sys
from speechbrain_ext.errors import friendly_exit
from speechbrain_ext.distill.embedding_cache import Windows, cached_embeddings
from tests.distill.test_embedding_cache import make_encoder
encoder = make_encoder()
resource.setrlimit(resource.RLIMIT_FSIZE, (150, 150))
with friendly_exit():
    cached_embeddings(encoder, Windows(sys.argv[1]), sys.argv[2])
"""
    done = subprocess.run(
        [sys.executable, "-c", program, manifest, tmp_path / "cache"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "error: a file could not be written" in done.stderr
    windows = Windows(manifest)
    assert len(cached_embeddings(make_encoder(), windows, tmp_path / "cache")) == 4


# Teachers of every kind


class Plain(Lobe):
    """A lobe of waveforms without parameters, as ONNX Runtime's models are to PyTorch."""

    def __init__(self, pitch: float = 100.0) -> None:
        super().__init__()
        self.layers, self.embedding_size, self.pitch = {}, 2, pitch
        self.register_buffer("file", torch.arange(3, dtype=torch.uint8))

    def forward(self, feats: Tensor, lengths: Tensor | None = None, intermediates: Any = 0) -> Any:
        wave = torch.sin(self.pitch * torch.arange(feats.shape[1]))
        return torch.stack([feats.square().mean(1), (feats * wave).mean(1)], -1).unsqueeze(1)


def test_a_teacher_of_waveforms_without_parameters(manifest: Path, tmp_path: Path) -> None:
    windows = Windows(manifest, seconds=0.3, hop=0.3)
    encoder = SpeakerEncoder(Waveforms(), PassThrough(), Plain())
    table = cached_embeddings(encoder, windows, tmp_path / "cache")
    expected = encoder(torch.stack(windows.read(range(len(windows))))).squeeze(1)
    assert np.allclose(table, expected.numpy(), atol=1e-6)
    # Weights and what compute_features gives are the same: what the lobe makes of it is not.
    encoder = SpeakerEncoder(Waveforms(), PassThrough(), Plain(pitch=0.05))
    with refused("other-weights", tmp_path / "cache", "features"):
        cached_embeddings(encoder, windows, tmp_path / "cache")


class Faulty(Plain):
    """Gives NaN for what is as long as one utterance."""

    def forward(self, feats: Tensor, lengths: Tensor | None = None, intermediates: Any = 0) -> Any:
        whole = feats.shape[1] if lengths is None else (lengths * feats.shape[1]).round()
        embedding = super().forward(feats)
        return embedding.masked_fill(torch.as_tensor(whole == 10400).view(-1, 1, 1), torch.nan)


def test_an_utterance_without_a_finite_embedding_is_named(manifest: Path, tmp_path: Path) -> None:
    encoder = SpeakerEncoder(Waveforms(), PassThrough(), Faulty())
    windows, folder = Windows(manifest), tmp_path / "cache"
    with refused("bad-embedding", "bob/1", tmp_path / "bob_1.wav"):
        cached_embeddings(encoder, windows, folder)
    assert not (folder / "whole" / WHOLE).exists()
    # The same weights, mended.
    encoder = SpeakerEncoder(Waveforms(), PassThrough(), Plain())
    assert np.isfinite(cached_embeddings(encoder, windows, folder)).all()


def test_an_unreadable_file_is_named(manifest: Path, tmp_path: Path) -> None:
    silence = np.zeros(10400)
    for workers, content in enumerate(([], silence)):
        soundfile.write(tmp_path / "bob_1.wav", content, 16000)
        with refused("unusable-audio", "bob_1.wav", "stage 1"):
            cached_embeddings(
                make_encoder(), Windows(manifest), tmp_path / "cache", num_workers=workers
            )


# Stale ones


class Louder(FrontEnd):
    """A front end with the settings and weights of another, and other features."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, wavs: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        return self.inner(10 * wavs, lengths)


class NoNorm(nn.Module):
    def forward(self, feats: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        return feats


@pytest.fixture(params=["whole", "unfinished"])
def cache(request: pytest.FixtureRequest, manifest: Path) -> Path:
    """Whole, or as a kill left it."""
    folder = manifest.parent / "cache" / "whole"
    table = np.array(cached_embeddings(make_encoder(), Windows(manifest), folder.parent))
    if request.param == "unfinished":
        table[2] = np.nan
        np.save(folder / UNFINISHED, table)
        (folder / WHOLE).unlink()
    return folder


class TestStale:
    def message(
        self, encoder: SpeakerEncoder, manifest: Path, cache: Path, code: str = "other-weights"
    ) -> str:
        before = {path.name: path.read_bytes() for path in cache.iterdir()}
        with refused(code, cache, "remove it") as caught:
            cached_embeddings(encoder, Windows(manifest), cache.parent)
        assert {path.name: path.read_bytes() for path in cache.iterdir()} == before
        return str(caught.value)

    def test_by_a_weight(self, manifest: Path, cache: Path) -> None:
        encoder = make_encoder()
        with torch.no_grad():
            next(encoder.embedding_model.parameters()).view(-1)[0] += 1e-6
        message = self.message(encoder, manifest, cache)
        assert "weights" in message and "features" not in message and "train.csv" not in message

    def test_by_all_weights(self, manifest: Path, cache: Path) -> None:
        encoder = make_encoder()
        nn.init.normal_(next(encoder.embedding_model.parameters()))
        message = self.message(encoder, manifest, cache)
        assert "weights" in message and "features" not in message

    def test_by_a_statistic(self, manifest: Path, cache: Path) -> None:
        encoder = make_encoder()
        dict(encoder.embedding_model.named_buffers())["fc_norm.running_mean"][0] += 1e-6
        assert "weights" in self.message(encoder, manifest, cache)

    def test_by_the_manifest(self, manifest: Path, cache: Path) -> None:
        manifest.write_text(manifest.read_text().replace("0.65", "0.64"))
        message = self.message(make_encoder(), manifest, cache)
        assert f"another {manifest}" in message and "weights" not in message

    @pytest.mark.parametrize("change", ["bands", "level", "normalisation"])
    def test_by_the_front_end(self, manifest: Path, cache: Path, change: str) -> None:
        encoder = make_encoder()
        if change == "bands":
            encoder.compute_features = LogMel(n_mels=40)
            encoder.embedding_model = LSTMAutoencoder(40, 16, 8, 8, lin_neurons=12).eval()
        elif change == "level":
            encoder.compute_features = Louder(LogMel())
        else:
            encoder.mean_var_norm = NoNorm()
        message = self.message(encoder, manifest, cache)
        assert "features" in message and (change == "bands") == ("weights" in message)

    def test_all_at_once(self, manifest: Path, cache: Path) -> None:
        encoder = make_encoder()
        nn.init.zeros_(next(encoder.embedding_model.parameters()))
        manifest.write_text(manifest.read_text().replace("0.65", "0.64"))
        encoder.compute_features = Louder(LogMel())
        message = self.message(encoder, manifest, cache)
        assert all(word in message for word in ("weights", "train.csv", "features"))

    @pytest.mark.parametrize("name", ["made_from.npz", "embeddings"])
    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half a file", b"text", None])
    def test_damaged(self, manifest: Path, cache: Path, content: bytes | None, name: str) -> None:
        path = next(cache / each for each in (name, WHOLE, UNFINISHED) if (cache / each).exists())
        path.write_bytes(path.read_bytes()[:-9] if content is None else content)
        message = self.message(make_encoder(), manifest, cache, code="damaged-file")
        assert path.name in message

    def test_of_another_size(self, manifest: Path, cache: Path) -> None:
        path = next(cache / each for each in (WHOLE, UNFINISHED) if (cache / each).exists())
        with open(path, "wb") as file:
            np.save(file, np.zeros((4, 11), np.float32))
        assert "(4, 12)" in self.message(make_encoder(), manifest, cache, code="damaged-file")


def test_a_hole_in_a_whole_cache_is_damage(manifest: Path, tmp_path: Path) -> None:
    windows, folder = Windows(manifest), tmp_path / "cache" / "whole"
    cached_embeddings(make_encoder(), windows, folder.parent)
    table = np.load(folder / WHOLE, mmap_mode="r+")
    table[1, 3] = np.nan
    table.flush()
    with refused("damaged-file", folder, "missing"):
        cached_embeddings(make_encoder(), windows, folder.parent)


def test_a_file_in_its_place_is_named(manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("of an earlier version")
    with refused("damaged-file", tmp_path / "cache", "file"):
        cached_embeddings(make_encoder(), Windows(manifest), tmp_path / "cache")


def test_other_windows_and_speeds_lie_beside_one_another(manifest: Path, tmp_path: Path) -> None:
    def made(**windows: Any) -> np.ndarray:
        return cached_embeddings(make_encoder(), Windows(manifest, **windows), tmp_path / "cache")

    first = made(seconds=0.3, hop=0.1)
    made()
    made(speeds=[0.9, 1, 1.1])
    made(seconds=0.3, hop=0.2)
    made(seconds=2, hop=1)
    assert np.array_equal(made(seconds=2.0, hop=1.0, speeds=[1.0]), made(seconds=2, hop=1))
    assert np.array_equal(made(seconds=0.3, hop=0.1), first)
    names = {"0.3s_every_0.1s", "whole", "whole_at_1_0.9_1.1", "0.3s_every_0.2s", "2s_every_1s"}
    assert {path.name for path in (tmp_path / "cache").iterdir()} == names


LARGE = """
import json, sys
import torch
from torch import nn
from speechbrain_ext.distill import embedding_cache
from speechbrain_ext.distill.cached_teacher import CachedTeacher
from tests.distill.test_embedding_cache import Plain
from speechbrain_ext.lobes.encoders import SpeakerEncoder
from speechbrain_ext.lobes.features import PassThrough, Waveforms


def anonymous():  # megabytes that are not of a file
    lines = dict(line.split(":") for line in open("/proc/self/status"))
    return int(lines["RssAnon"].split()[0]) / 1024


class Wide(Plain):
    def __init__(self):
        super().__init__()
        self.embedding_size, self.most = 192, 0.0

    def forward(self, feats, lengths=None, intermediates=False):
        self.most = max(self.most, anonymous())
        return feats[:, :1].expand(-1, 192).unsqueeze(1)


def silence(windows, numbers):
    return [torch.full((16,), float(number)) for number in numbers]


embedding_cache.Windows.read = silence
torch.set_num_threads(1)
manifest, folder = sys.argv[1:]
network = Wide()
teacher = CachedTeacher(SpeakerEncoder(Waveforms(), PassThrough(), network), folder, 0.001, 1.0, 16)
before = anonymous()
teacher.prepare(manifest)
made = network.most
rows = []
for place in range(0, 20000, 100):
    ids = [f"speaker/{place + k}" for k in range(100)]
    rows += teacher(torch.zeros(100, 16), ids=ids, starts=[0] * 100).embedding[:, 7].tolist()
size = teacher.table.numel() * 4 / 2**20
print(json.dumps([before, made, anonymous(), size, rows[:3], len(rows)]))
"""


@pytest.mark.slow
def test_a_large_cache_takes_hardly_any_memory(tmp_path: Path) -> None:
    """220,000 windows of 192 numbers are 161 MB, in the file and in the system's cache of it."""
    with open(tmp_path / "train.csv", "w") as file:
        file.write("ID,duration,wav,start,stop,spk_id\n")
        for n in range(20000):
            file.write(f"speaker/{n},9.5,/a.wav,0,152000,speaker\n")
    done = subprocess.run(
        [sys.executable, "-c", LARGE, tmp_path / "train.csv", tmp_path / "cache"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    before, made, after, size, rows, count = json.loads(done.stdout.splitlines()[-1])
    assert size > 160 and count == 20000 and rows == [0, 11, 22]
    # The manifest, and what is known of each window: some 50 bytes.
    assert made - before < 60 and after - before < 60
