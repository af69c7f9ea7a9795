"""What is computed in pieces where nothing is learnt is what is computed at once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from speechbrain_ext.lobes import features
from speechbrain_ext.lobes.ecapa import PaddedECAPA
from speechbrain_ext.lobes.lstm_autoencoder import LSTMAutoencoder
from speechbrain_ext.lobes.mixer import MLPMixer
from speechbrain_ext.nnet import pieces
from speechbrain_ext.nnet.aggregation import JoinedOutputs
from speechbrain_ext.nnet.mixing import ChannelMixing, IDConv
from speechbrain_ext.nnet.pieces import in_pieces, pieces_of
from speechbrain_ext.nnet.pooling import AttentiveStatisticsPooling, ContextStatisticsPooling
from speechbrain_ext.nnet.recurrent import BidirectionalLSTM
from tests.lobes.published_networks import randomise_norms


class LastLayer(nn.Module):
    """The recurrent layers, as a layer that gives one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = BidirectionalLSTM(80, 6, num_layers=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x)[-1]


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "channel_mixing": lambda: ChannelMixing(80, 2),
    "id_conv": lambda: IDConv(80),
    "pooling": lambda: AttentiveStatisticsPooling(80),
    "pooling_alike": lambda: AttentiveStatisticsPooling(80, per_channel=False),
    "pooling_of_context": lambda: ContextStatisticsPooling(80),
    "recurrent": LastLayer,
    "mixer": lambda: MLPMixer(channels=16, num_blocks=2, lin_neurons=8),
    "joined": lambda: MLPMixer(channels=16, num_blocks=2, lin_neurons=8, aggregation=JoinedOutputs),
    "lstm_autoencoder": lambda: LSTMAutoencoder(
        conv_channels=16, latent_size=12, lstm_size=10, lin_neurons=8
    ),
    "ecapa": lambda: PaddedECAPA(80, (16, 16, 16, 16, 40), lin_neurons=8),
}


@pytest.mark.parametrize("piece", [1, 1000, 20_000])
@pytest.mark.parametrize("name", LAYERS)
def test_pieces_change_nothing(name: str, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layer, x = randomise_norms(LAYERS[name]()).eval(), torch.randn(2, 157, 80)
    kept, expected = x.clone(), layer(x)  # gradients are wanted: in one piece
    monkeypatch.setattr(pieces, "PIECE", piece)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), expected, atol=2e-5, rtol=1e-4)
    assert torch.equal(x, kept)


@pytest.mark.parametrize("samples", [16000, 16159, 16160])
@pytest.mark.parametrize("piece", [1, 512 * 2 * 7])
def test_frames_in_pieces(samples: int, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    front_end, wavs = features.LogMel(), torch.randn(2, samples)
    lengths = torch.tensor([1.0, 0.5])
    expected = front_end(wavs, lengths)
    monkeypatch.setattr(pieces, "PIECE", piece)
    torch.testing.assert_close(front_end(wavs, lengths), expected, atol=1e-5, rtol=1e-5)


def test_pieces_are_bounded_and_made_only_where_nothing_is_learnt() -> None:
    sizes: list[int] = []

    def add(a: Tensor, b: Tensor) -> Tensor:
        sizes.append(a.shape[1])
        return a + b

    x = torch.randn(2, 50_000)
    whole = in_pieces(add, x, x, width=400, dim=1)
    assert sizes == [50_000] and len(pieces_of(x, width=10**9)) == 1
    sizes.clear()
    with torch.no_grad():
        assert torch.equal(in_pieces(add, x, x, width=400, dim=1), whole)
    assert max(sizes) == pieces.PIECE // 400 and sum(sizes) == 50_000
