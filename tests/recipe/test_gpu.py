"""What only a GPU can show; ``tools/gpu_check`` runs these where there is one."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from speechbrain_ext.lobes.contract import check_encoder
from speechbrain_ext.measure.speed import benchmark_encoders, benchmark_lengths
from speechbrain_ext.systems.devices import check_device
from speechbrain_ext.training.crops import CropBatch
from speechbrain_ext.training.progress import Stopwatch
from tests.lobes.systems import ENCODERS, OWN_ENCODERS, make_encoder
from tests.recipe.tiny import TEACHER, make_corpus, run
from tests.refusals import refused

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here"),
]


@pytest.fixture(autouse=True)
def _exact_products() -> Iterator[None]:
    """Products of float32 with all their bits, as on the CPU."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    yield
    matmul.allow_tf32, cudnn.allow_tf32 = before


@pytest.mark.parametrize("name", ENCODERS)
def test_embeddings_are_the_cpus_and_keep_the_contract(name: str) -> None:
    encoder, wavs = make_encoder(name), 0.1 * torch.randn(3, 24000)
    lengths = torch.tensor([1.0, 0.75, 0.3])
    with torch.no_grad():
        expected = encoder(wavs, lengths)
        found = encoder.cuda()(wavs.cuda(), lengths.cuda())
    torch.testing.assert_close(found.cpu(), expected, atol=1e-3, rtol=1e-3)
    check_encoder(encoder, wavs[:2].cuda())


@pytest.mark.parametrize("name", OWN_ENCODERS)
def test_gradients_are_the_cpus(name: str) -> None:
    """Backward passes written by hand among them."""
    encoder, wavs = make_encoder(name), 0.1 * torch.randn(3, 16000)
    for layer in encoder.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    other = copy.deepcopy(encoder).cuda()
    direction = torch.randn(3, 1, 8)
    expected = _gradients(encoder.train(), wavs, direction)
    found = _gradients(other.train(), wavs.cuda(), direction.cuda())
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    for key, gradient in expected.items():
        torch.testing.assert_close(found[key].cpu(), gradient, atol=2e-3 * largest, rtol=1e-2)


def _gradients(encoder: nn.Module, wavs: Tensor, direction: Tensor) -> dict[str, Tensor]:
    (encoder(wavs) * direction).sum().backward()
    return {name: p.grad for name, p in encoder.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", OWN_ENCODERS)
def test_mixed_precision_learns(name: str, dtype: torch.dtype) -> None:
    encoder, wavs = make_encoder(name).cuda(), 0.1 * torch.randn(3, 16000, device="cuda")
    with torch.no_grad():
        expected = encoder(wavs)
        with torch.autocast("cuda", dtype):
            found = encoder(wavs)
    cosines = torch.cosine_similarity(found.float(), expected, dim=-1)
    assert cosines.min() > 0.98
    encoder.train()
    with torch.autocast("cuda", dtype):
        embeddings = encoder(wavs)
    embeddings.float().square().mean().backward()
    for key, parameter in encoder.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), key


def test_a_training_in_half_precision(tmp_path: Path) -> None:
    corpus, out = make_corpus(tmp_path / "tiny"), tmp_path / "out"
    line = [*TEACHER, "--corpus_dir", corpus, "--output_folder", out]
    line += ["--device", "cuda", "--precision", "fp16"]
    done = run("train_teacher.py", *line, gpus="0")
    assert done.returncode == 0, done.stderr
    epochs = [json.loads(text) for text in (out / "train_log.jsonl").read_text().splitlines()]
    assert [epoch["epoch"] for epoch in epochs] == [1, 2]
    assert all(epoch["train"]["peak_memory_gb"] > 0 for epoch in epochs)


def test_batches_with_and_without_anything_readable_are_pinned() -> None:
    good = {"id": "a@0", "sig": torch.zeros(8), "spk_id_encoded": torch.tensor([0])}
    assert CropBatch([good, {**good, "sig": None}]).pin_memory().sig.data.is_pinned()
    assert CropBatch([{**good, "sig": None}]).pin_memory().unreadable == ["a"]


def test_parts_of_a_step_are_timed() -> None:
    watch = Stopwatch(torch.device("cuda"))
    with watch:
        torch.randn(2048, 2048, device="cuda") @ torch.randn(2048, 2048, device="cuda")
    torch.cuda.synchronize()
    assert watch.take() > 0


def test_speed_and_memory_are_measured() -> None:
    encoders = {name: make_encoder(name) for name in ("mixer", "ecapa_tdnn")}
    found = benchmark_encoders(encoders, 2, 0.5, 2, "cuda:0")
    assert all(system["utterances_per_second"] > 0 for system in found["systems"])
    by_length = benchmark_lengths(encoders, [0.5, 1.0], 2, "cuda:0")
    for system in by_length["systems"]:
        assert 0 < system["peak_bytes"][0] < system["peak_bytes"][1]


def test_a_device_that_is_not_there() -> None:
    assert check_device("cuda") == "cuda"
    with refused("bad-device", "cuda:99"):
        check_device("cuda:99")
