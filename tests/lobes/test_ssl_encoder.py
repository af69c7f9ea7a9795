"""WavLM, HuBERT and wav2vec 2.0 as lobes and teachers, from small folders of random weights."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModel

from speechbrain_ext.distill.teacher import FrozenTeacher
from speechbrain_ext.lobes.contract import check_encoder
from speechbrain_ext.lobes.conv_front_end import ConvFrontEnd
from speechbrain_ext.lobes.encoders import SpeakerEncoder
from speechbrain_ext.lobes.features import PassThrough, Waveforms
from speechbrain_ext.lobes.ssl_encoder import SSLEncoder
from speechbrain_ext.measure.speed import count_macs
from speechbrain_ext.nnet.masking import frame_mask
from tests.lobes.ssl_models import ARCHITECTURES, make_model_folder

NORMS = ("layer", "group")
BOTH = [(architecture, norm) for architecture in ARCHITECTURES for norm in NORMS]


class MeanBackEnd(nn.Module):
    """Mean over time and a linear layer."""

    def __init__(self, input_size: int, size: int = 6) -> None:
        super().__init__()
        self.embedding_size = size
        self.linear = nn.Linear(input_size, size)

    def forward(self, feats: Tensor, lengths: Tensor | None = None) -> Tensor:
        lengths = torch.ones(len(feats)) if lengths is None else lengths
        mask = frame_mask(lengths, feats.shape[1])
        return self.linear((feats * mask).sum(dim=1) / mask.sum(dim=1)).unsqueeze(1)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """A model for each architecture and norm of the convolutions."""
    root = tmp_path_factory.mktemp("models")
    return {
        (architecture, norm): make_model_folder(
            root / f"{architecture}_{norm}", architecture, norm=norm, conv_bias=norm == "layer"
        )
        for architecture, norm in BOTH
    }


def teacher_of(encoder: SSLEncoder) -> FrozenTeacher:
    return FrozenTeacher(SpeakerEncoder(Waveforms(), PassThrough(), encoder))


def full_hidden_states(folder: Path, wavs: Tensor) -> list[Tensor]:
    """What transformers alone gives: the states before each layer, and what the model gives."""
    model = AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        output = model(F.layer_norm(wavs, wavs.shape[1:]), output_hidden_states=True)
    return [*output.hidden_states[:-1], output.last_hidden_state]


@pytest.mark.parametrize("architecture, norm", BOTH)
@pytest.mark.parametrize("layers", [[1], [1, 3]])
def test_its_description_makes_it_where_the_source_is_not(
    folders: dict[tuple[str, str], Path], architecture: str, norm: str, layers: list[int]
) -> None:
    original = SSLEncoder(str(folders[architecture, norm]), architecture, layers).eval()
    state = torch.random.get_rng_state()
    copy = SSLEncoder("not/there", architecture, layers, **original.build_arguments).eval()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert copy.build_arguments == original.build_arguments
    wavs, lengths = torch.randn(2, 6000), torch.tensor([1.0, 0.5])
    with torch.no_grad():
        assert not torch.allclose(copy(wavs, lengths), original(wavs, lengths), atol=1e-3)
        copy.load_state_dict(original.state_dict())
        assert torch.equal(copy(wavs, lengths), original(wavs, lengths))


@pytest.mark.parametrize("architecture, norm", BOTH)
def test_hidden_states_are_those_of_the_whole_model(
    folders: dict[tuple[str, str], Path], architecture: str, norm: str
) -> None:
    folder, wavs = folders[architecture, norm], torch.randn(2, 6000)
    expected = full_hidden_states(folder, wavs)
    parameters = []
    for layer in range(4):
        encoder = SSLEncoder(str(folder), architecture, [layer]).eval()
        with torch.inference_mode():
            embedding, hidden = encoder.forward_intermediates(wavs)
        assert encoder.layers == {f"layer{layer}": 32} and len(hidden) == 1
        assert torch.equal(hidden[0], expected[layer])
        torch.testing.assert_close(embedding, expected[layer].mean(dim=1, keepdim=True))
        parameters.append(sum(p.numel() for p in encoder.parameters()))
        assert len(encoder.model.encoder.layers) == layer
    assert parameters == sorted(set(parameters))
    for layers in ([2, 0], [1, 3], [3, 1, 2]):
        several = SSLEncoder(str(folder), architecture, layers).eval()
        assert several.layers == {f"layer{layer}": 32 for layer in sorted(layers)}
        with torch.no_grad():
            _, hidden = several.forward_intermediates(wavs)
        for layer, found in zip(sorted(layers), hidden, strict=True):
            assert torch.equal(found, expected[layer])
    assert SSLEncoder(str(folder), architecture).layers == {"layer3": 32}


@pytest.mark.parametrize("architecture, norm", BOTH)
@pytest.mark.parametrize("back_end", [None, MeanBackEnd])
def test_padding_changes_nothing(
    folders: dict[tuple[str, str], Path], architecture: str, norm: str, back_end: Any
) -> None:
    folder = str(folders[architecture, norm])
    encoder = SSLEncoder(folder, architecture, [1, 3], back_end=back_end).eval()
    samples = torch.tensor([8000, 1600, 400, 7999, 1600])
    wavs = torch.randn(5, 8000)
    for index, count in enumerate(samples):
        wavs[index, count:] = 1e3
    with torch.no_grad():
        together, hidden = encoder.forward_intermediates(wavs, samples / 8000)
        frames = encoder.num_frames(samples).tolist()
        assert frames == [24, 4, 1, 24, 4] and hidden[0].shape == (5, 24, 32)
        for index, count in enumerate(samples):
            alone, layers = encoder.forward_intermediates(wavs[index : index + 1, :count])
            torch.testing.assert_close(together[index], alone[0], atol=1e-5, rtol=0)
            for padded, layer in zip(hidden, layers, strict=True):
                assert layer.shape[1] == frames[index]
                torch.testing.assert_close(
                    padded[index, : frames[index]], layer[0], atol=1e-5, rtol=0
                )
                assert not padded[index, frames[index] :].any()
    whole = SpeakerEncoder(Waveforms(), PassThrough(), encoder)
    check_encoder(whole, torch.randn(2, 4000))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("seconds, frames", [(2, 99), (30, 1499)])
def test_any_length(
    folders: dict[tuple[str, str], Path], architecture: str, seconds: int, frames: int
) -> None:
    encoder = SSLEncoder(str(folders[architecture, "layer"]), architecture, [3]).eval()
    with torch.no_grad():
        embedding, hidden = encoder.forward_intermediates(torch.randn(1, 16000 * seconds))
    assert hidden[0].shape == (1, frames, 32) and embedding.isfinite().all()


def test_too_short_a_waveform_is_refused(folders: dict[tuple[str, str], Path]) -> None:
    encoder = SSLEncoder(str(folders["hubert", "group"]), "hubert").eval()
    assert encoder.receptive_field == 400
    for wavs, lengths in (
        (torch.zeros(1, 399), None),
        (torch.zeros(2, 1000), torch.tensor([1, 0.399])),
    ):
        with pytest.raises(ValueError, match="has 399 samples, and the model needs at least 400"):
            encoder(wavs, lengths)


@pytest.mark.parametrize("normalize", [True, False])
def test_waveforms_are_normalised_where_the_model_wants_it(tmp_path: Path, normalize: bool) -> None:
    folder = make_model_folder(tmp_path / "model", "wav2vec2", normalize=normalize)
    encoder, wavs = SSLEncoder(str(folder), "wav2vec2").eval(), torch.randn(2, 2000)
    wavs[1] *= 3
    with torch.no_grad():
        embeddings, others = encoder(wavs), encoder(0.5 * wavs + 0.1)
    assert encoder.front_end_settings["normalize"] is normalize
    assert torch.allclose(embeddings, others, atol=1e-4) is normalize


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_frozen_teacher_stays_the_same(
    folders: dict[tuple[str, str], Path], architecture: str
) -> None:
    encoder = SSLEncoder(str(folders[architecture, "layer"]), architecture, [1, 3])
    teacher, wavs = teacher_of(encoder), torch.randn(3, 8000)
    lengths = torch.tensor([1.0, 0.5, 1.0])
    before = teacher(wavs, lengths)
    teacher.train()
    state = torch.random.get_rng_state()
    after = teacher(wavs, lengths)
    assert torch.equal(state, torch.random.get_rng_state())
    assert not any(module.training for module in teacher.modules())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert torch.equal(before.embedding, after.embedding) and not after.embedding.requires_grad
    assert teacher.layers == {"layer1": 32, "layer3": 32} and teacher.embedding_size == 32
    assert after.embedding.shape == (3, 32) and after.hidden["layer1"].shape == (3, 24, 32)
    assert teacher.num_parameters == sum(p.numel() for p in encoder.parameters())
    assert copy.deepcopy(teacher)(wavs, lengths).embedding.equal(before.embedding)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("layers", [None, [0], [2], [1, 3]])
def test_a_training_step_reaches_every_weight(
    folders: dict[tuple[str, str], Path], architecture: str, layers: list[int] | None
) -> None:
    encoder = SSLEncoder(
        str(folders[architecture, "layer"]), architecture, layers, back_end=MeanBackEnd
    ).train()
    assert encoder.embedding_size == 6
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embedding = encoder(torch.randn(4, 4000))
    (embedding.float() * torch.randn(4, 1, 6)).sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    assert any(parameter.grad.any() for parameter in encoder.model.parameters())
    if layers == [1, 3]:
        assert dict(encoder.named_parameters())["layer_weights"].grad.any()  # type: ignore[union-attr]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_training_masks_and_drops_nothing_but_by_dropout(architecture: str, tmp_path: Path) -> None:
    nothing: dict[str, Any] = dict.fromkeys(
        ("hidden_dropout", "activation_dropout", "attention_dropout", "feat_proj_dropout"), 0.0
    )
    folder = make_model_folder(
        tmp_path / "model", architecture, mask_time_prob=0.9, mask_feature_prob=0.9, **nothing
    )
    encoder, wavs = SSLEncoder(str(folder), architecture), torch.randn(2, 8000)
    assert torch.equal(encoder.train()(wavs), encoder.train()(wavs))
    torch.testing.assert_close(encoder.train()(wavs), encoder.eval()(wavs))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_bfloat16_is_near_float32(folders: dict[tuple[str, str], Path], architecture: str) -> None:
    folder = str(folders[architecture, "layer"])
    # In bfloat16 such a waveform is a constant: it must be normalised before.
    wavs, lengths = 1e-3 * torch.randn(3, 16000) + 1, torch.tensor([1.0, 0.7, 0.4])
    expected = teacher_of(SSLEncoder(folder, architecture, [0, 3]))(wavs, lengths)
    encoder = SSLEncoder(folder, architecture, [0, 3], precision="bf16")
    assert {parameter.dtype for parameter in encoder.model.parameters()} == {torch.bfloat16}
    with pytest.raises(ValueError, match="'bf16', which is for a frozen model"):
        encoder.train()(wavs)
    teacher = teacher_of(encoder)
    for enabled in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            output = teacher(wavs, lengths)
        assert output.embedding.dtype == torch.float32
        assert torch.cosine_similarity(output.embedding, expected.embedding).min() > 0.99
        for name, hidden in output.hidden.items():
            assert hidden.dtype == torch.float32 and hidden.shape == expected.hidden[name].shape
            similarity = torch.cosine_similarity(hidden[0], expected.hidden[name][0], dim=-1)
            assert similarity.mean() > 0.99
    with_back_end = SSLEncoder(folder, architecture, precision="bf16", back_end=MeanBackEnd).eval()
    assert with_back_end(wavs, lengths).dtype == torch.float32


@pytest.mark.parametrize("architecture, norm", BOTH)
@pytest.mark.parametrize("normalize", [True, False])
def test_a_front_end_with_its_weights_gives_its_features(
    tmp_path: Path, architecture: str, norm: str, normalize: bool
) -> None:
    folder = make_model_folder(
        tmp_path / "model", architecture, norm=norm, conv_bias=normalize, normalize=normalize
    )
    encoder = SSLEncoder(str(folder), architecture, [0]).eval()
    front_end = ConvFrontEnd(**encoder.front_end_settings)
    assert front_end.settings == encoder.front_end_settings
    front_end.load_state_dict(encoder.front_end_state())
    samples = torch.tensor([8000, 3001])
    wavs = torch.randn(2, 8000)
    found = front_end(wavs, samples / 8000)
    assert torch.equal(front_end.num_frames(samples), encoder.num_frames(samples))
    model: Any = AutoModel.from_pretrained(folder).eval()
    for index, count in enumerate(samples):
        wav = wavs[index : index + 1, :count]
        with torch.no_grad():
            wav = F.layer_norm(wav, wav.shape[1:]) if normalize else wav
            convolved = model.feature_extractor(wav).transpose(1, 2)
            expected = model.feature_projection.layer_norm(convolved)[0]
        torch.testing.assert_close(found[index, : len(expected)], expected, atol=1e-4, rtol=0)
    # A copy, in float32 whatever the model is in.
    state = SSLEncoder(str(folder), architecture, [0], precision="bf16").front_end_state()
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}
    with torch.no_grad():
        front_end.convs[0].weight.zero_()  # type: ignore[operator]
    assert encoder.front_end_state()["convs.0.weight"].any()


def test_convolutions_that_a_front_end_cannot_have_are_refused(tmp_path: Path) -> None:
    folder = make_model_folder(tmp_path / "model", conv_dim=8, feat_extract_activation="relu")
    with pytest.raises(ValueError, match=r"channels \[8, .*activation 'relu'"):
        SSLEncoder(str(folder), "wavlm").front_end_state()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_operations_are_those_of_the_layers(
    folders: dict[tuple[str, str], Path], architecture: str
) -> None:
    wavs, frames, size = torch.randn(1, 16000), 49, 32
    counts = []
    for layer in (1, 2, 3):
        encoder = SSLEncoder(str(folders[architecture, "layer"]), architecture, [layer]).eval()
        counts.append(count_macs(teacher_of(encoder), wavs))
    linear = (4 * size * size + 2 * size * 2 * size) * frames
    if architecture == "wavlm":
        # The gate of its positions, (8, 8) for each head, and attention products that PyTorch
        # does not fuse.
        linear += 8 * size * frames + 2 * frames * frames * size
    assert counts[1] - counts[0] == counts[2] - counts[1] == linear


def test_published_checkpoints_have_other_names_and_types(
    folders: dict[tuple[str, str], Path], tmp_path: Path
) -> None:
    """Those on the hub are ``pytorch_model.bin`` of pretraining classes, some in half precision."""
    wavs = torch.randn(1, 4000)
    for architecture in ARCHITECTURES:
        folder = Path(shutil.copytree(folders[architecture, "layer"], tmp_path / architecture))
        expected = SSLEncoder(str(folder), architecture).eval()(wavs)
        state = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        old = {"project_q.bias": torch.zeros(3)}
        for name, tensor in state.items():
            for new, letter in (("original0", "g"), ("original1", "v")):
                name = name.replace(f"parametrizations.weight.{new}", f"weight_{letter}")
            old[f"{architecture}.{name}"] = tensor.half()
        torch.save(old, folder / "pytorch_model.bin")
        encoder = SSLEncoder(str(folder), architecture).eval()
        assert encoder.model.dtype == torch.float32
        torch.testing.assert_close(encoder(wavs), expected, atol=2e-2, rtol=0)
