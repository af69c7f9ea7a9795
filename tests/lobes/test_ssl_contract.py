"""What every encoder with every back end promises: see the contracts in docs/architecture.md."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from speechbrain_ext.lobes.contract import check_encoder
from speechbrain_ext.lobes.conv_front_end import ConvFrontEnd
from speechbrain_ext.lobes.ssl_student import SSLStudent
from tests.lobes.memory import check_linear, peaks_by_name
from tests.lobes.ssl_systems import (
    BACK_ENDS,
    BLOCKS,
    EMBEDDING_SIZE,
    HIDDEN_SIZE,
    SYSTEMS,
    make_encoder,
    make_student,
    make_waveforms,
)

pytestmark = pytest.mark.slow

every_system = pytest.mark.parametrize("name", SYSTEMS)


@every_system
@torch.no_grad()
def test_padding_of_waveforms_changes_nothing(name: str) -> None:
    # In float64, where the smallest share of a frame of padding is told from rounding.
    student = make_student(name).double()
    # On both sides of whole hops of 320 samples and of whole windows of 20 frames, and down to
    # the one frame of the shortest.
    samples = torch.tensor([32_123, 32_080, 32_079, 12_880, 12_879, 6480, 6479, 4800, 720, 400])
    wavs = make_waveforms(len(samples), 32_123).double()
    for index, count in enumerate(samples):
        wavs[index, count:] = 30.0
    together = student(wavs, samples / 32_123)
    for index, count in enumerate(samples):
        alone = student(wavs[index : index + 1, :count])
        torch.testing.assert_close(together[index], alone[0], atol=1e-7, rtol=0)


@every_system
@torch.no_grad()
def test_parts_of_an_utterance_change_its_embedding(name: str) -> None:
    """As little would pass the test above as does not depend on the waveform at all."""
    student, wavs = make_student(name), make_waveforms(1, 16_000)
    embedding = student(wavs)
    for change in (wavs.flip(1), torch.cat([wavs[:, :15_000], make_waveforms(1, 1000)], dim=1)):
        assert (student(change) - embedding).abs().max() > 5e-4


@every_system
@pytest.mark.parametrize("seconds", [0.3, 60.0])
@torch.no_grad()
def test_any_length(name: str, seconds: float) -> None:
    embedding = make_student(name)(make_waveforms(1, int(seconds * 16_000)))
    assert embedding.shape == (1, 1, EMBEDDING_SIZE) and embedding.isfinite().all()


@pytest.fixture(scope="module")
def peaks() -> dict[str, list[int]]:
    return peaks_by_name("tests.lobes.ssl_systems", SYSTEMS)


@every_system
def test_memory_is_linear_in_time(name: str, peaks: dict[str, list[int]]) -> None:
    check_linear(peaks[name])


@every_system
@pytest.mark.parametrize("padded", [False, True])
@torch.no_grad()
def test_intermediates_come_with_the_same_embedding(name: str, padded: bool) -> None:
    student, wavs = make_student(name), make_waveforms(2, 6400)
    lengths = torch.tensor([1.0, 0.5]) if padded else None
    embedding, hidden = student(wavs, lengths, intermediates=True)
    assert torch.equal(embedding, student(wavs, lengths))
    assert embedding.shape == (2, 1, student.embedding_size) == (2, 1, EMBEDDING_SIZE)
    assert student.layers == {"block1": HIDDEN_SIZE, "block2": HIDDEN_SIZE}
    assert [tuple(layer.shape) for layer in hidden] == [(2, 19, HIDDEN_SIZE)] * 2


@every_system
@torch.no_grad()
def test_bfloat16_is_near_float32(name: str) -> None:
    student, wavs = make_student(name), make_waveforms(3, 32_000)
    lengths = torch.tensor([1.0, 0.7, 0.4])
    expected = student(wavs, lengths)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = student(wavs, lengths)
    assert found.isfinite().all()
    assert torch.cosine_similarity(found.float(), expected, dim=-1).min() > 0.99


@every_system
def test_training_step_reaches_every_weight(name: str) -> None:
    student = make_student(name).train()
    lengths = torch.tensor([1.0, 0.5, 0.9, 0.3])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embedding = student(make_waveforms(4, 16_000), lengths)
    (embedding.float() * torch.randn(4, 1, EMBEDDING_SIZE)).sum().backward()
    for key, parameter in student.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key


@every_system
def test_check_before_training_passes(name: str) -> None:
    check_encoder(make_encoder(name), make_waveforms(2, 16_000))


@every_system
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_onnx_with_dynamic_batch_and_samples(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    student = make_student(name)
    torch.onnx.export(
        student,
        (make_waveforms(2, 16_000), torch.tensor([1.0, 0.5])),
        tmp_path / "student.onnx",
        input_names=["wavs", "lengths"],
        output_names=["embedding"],
        dynamo=False,
        dynamic_axes={"wavs": {0: "batch", 1: "samples"}, "lengths": {0: "batch"}},
    )
    session = onnxruntime.InferenceSession(tmp_path / "student.onnx")
    # 49 frames as traced; 1, and 19, less than a window of 20; 20; 140.
    for batch, samples in ((2, 16_000), (1, 400), (3, 6479), (1, 6480), (5, 45_000)):
        wavs, lengths = make_waveforms(batch, samples), torch.linspace(1, 0.3, batch)
        with torch.no_grad():
            expected = student(wavs, lengths)
        (found,) = session.run(None, {"wavs": wavs.numpy(), "lengths": lengths.numpy()})
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-4, rtol=0)


def test_forward_intermediates() -> None:
    student, wavs = make_student("sv_mixer-linear"), make_waveforms(2, 6400)
    with torch.no_grad():
        embedding, hidden = student.forward_intermediates(wavs)
        assert torch.equal(embedding, student(wavs)) and len(hidden) == 2


def test_every_block_is_weighted_by_a_softmax() -> None:
    student, wavs = make_student("mlp_mixer-linear"), make_waveforms(2, 6400)
    with torch.no_grad():
        _, (first, second) = student(wavs, intermediates=True)
        for weights, share in (([0.0, 0.0], 0.5), ([3.0, 0.0], torch.tensor(3.0).sigmoid())):
            student.layer_weights.copy_(torch.tensor(weights))
            expected = student.back_end(share * first + (1 - share) * second)
            torch.testing.assert_close(student(wavs), expected)


def test_at_least_one_block() -> None:
    with pytest.raises(ValueError, match="num_blocks=0"):
        SSLStudent(ConvFrontEnd(8), BLOCKS["sv_mixer"], BACK_ENDS["linear"], num_blocks=0)
