"""A network of one's own that does not keep the contract is told so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
from torch import Tensor, nn

from speechbrain_ext.lobes.contract import check_encoder
from speechbrain_ext.lobes.encoders import SpeakerEncoder
from speechbrain_ext.lobes.exact_length import ExactLength
from speechbrain_ext.lobes.features import LogMel
from speechbrain_ext.nnet.normalization import UtteranceNorm
from tests.lobes.systems import ENCODERS, make_encoder


class Mean(nn.Module):
    """The mean magnitude of the features of each utterance."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding_size: int = 80
        self.layers: Any = {}

    def forward(self, feats: Tensor, lengths: Any = None, intermediates: bool = False) -> Any:
        embedding = self.embed(feats, lengths)
        return (embedding, self.hidden(feats)) if intermediates else embedding

    def embed(self, feats: Tensor, lengths: Any) -> Tensor:
        feats = feats.abs()
        if lengths is not None:
            rows = zip(feats, torch.round(lengths * feats.shape[1]).int(), strict=True)
            return torch.stack([frames[:count].mean(0, keepdim=True) for frames, count in rows])
        return feats.mean(1, keepdim=True)

    def hidden(self, feats: Tensor) -> Any:
        return []


class NoLengths(Mean):
    def forward(self, feats: Tensor) -> Any:  # type: ignore[override]
        return self.embed(feats, None)


class Flat(Mean):
    def embed(self, feats: Tensor, lengths: Any) -> Tensor:
        return super().embed(feats, lengths).squeeze(1)


class Padded(Mean):
    def embed(self, feats: Tensor, lengths: Any) -> Tensor:
        return feats[:, -1:]


class Nearly(Mean):
    """Of the same direction with padding, and longer by little more than is let pass."""

    def embed(self, feats: Tensor, lengths: Any) -> Tensor:
        return super().embed(feats, lengths) * (1 if lengths is None else 1.010004)


class OtherSize(Mean):
    def __init__(self) -> None:
        super().__init__()
        self.embedding_size = 81


class Nameless(Mean):
    def __init__(self) -> None:
        super().__init__()
        del self.layers


class OtherLayers(Mean):
    def __init__(self) -> None:
        super().__init__()
        self.layers = {"input": 80, "more": 80}

    def hidden(self, feats: Tensor) -> Any:
        return [feats]


class NoList(Mean):
    def hidden(self, feats: Tensor) -> Any:
        return {"input": feats}


def check(network: Any) -> None:
    check_encoder(SpeakerEncoder(LogMel(), UtteranceNorm(), network), torch.randn(2, 8000))


@pytest.mark.parametrize("name", ENCODERS)
def test_every_lobe_passes(name: str) -> None:
    check_encoder(make_encoder(name), torch.randn(2, 16000))


@pytest.mark.parametrize(
    ("network", "sentence"),
    [
        (NoLengths, "NoLengths: forward has no argument lengths"),
        (Flat, r"Flat gives embeddings of shape \(2, 80\) .* makes it \(2, 1, 80\)"),
        (OtherSize, r"shape \(2, 1, 80\) .* embedding_size 81"),
        (Padded, "Padded: padding changes an embedding .* mask before every operation"),
        (Nearly, r"padding changes an embedding by 1\.0004 %.* over 1 %"),
        (Nameless, "Nameless has no attribute layers"),
        (OtherLayers, r"layers says .* have channels \[80\]"),
        (NoList, "a list of hidden outputs"),
    ],
)
def test_each_fault_is_a_sentence(network: type[nn.Module], sentence: str) -> None:
    check(Mean())
    with pytest.raises(ValueError, match=sentence):
        check(network())


def test_the_example_of_the_docs_passes() -> None:
    text = (Path(__file__).parents[2] / "docs/extending.md").read_text(encoding="utf-8")
    code = re.search(r"One file in `speechbrain_ext/lobes/`:\n\n```python\n(.*?)```", text, re.S)
    assert code is not None
    names: dict[str, Any] = {}
    exec(code[1], names)
    check(names["Mine"]())


def test_speechbrains_own_network_needs_its_wrapper() -> None:
    network = ECAPA_TDNN(80, channels=[16] * 4 + [32], attention_channels=8, lin_neurons=8)
    with pytest.raises(ValueError, match="ECAPA_TDNN: forward has no argument intermediates"):
        check(network)
    check(ExactLength(network, 80))
