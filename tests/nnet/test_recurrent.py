"""The bidirectional LSTM against torch's own."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from speechbrain_ext.nnet.masking import frame_mask
from speechbrain_ext.nnet.recurrent import BidirectionalLSTM


def both(layers: int = 2) -> tuple[BidirectionalLSTM, nn.LSTM]:
    """Ours, and torch's with the same weights."""
    ours = BidirectionalLSTM(6, 5, layers, dropout=0.3).eval()
    theirs = nn.LSTM(6, 5, layers, batch_first=True, bidirectional=True, dropout=0.3).eval()
    state = {}
    for layer in range(layers):
        for lstms, suffix in ((ours.forwards, ""), (ours.backwards, "_reverse")):
            for name, value in lstms[layer].state_dict().items():
                state[name.removesuffix("_l0") + f"_l{layer}{suffix}"] = value
    theirs.load_state_dict(state)
    return ours, theirs


def test_whole_batch() -> None:
    ours, theirs = both()
    x = torch.randn(3, 40, 6)
    torch.testing.assert_close(ours(x)[-1], theirs(x)[0], atol=1e-5, rtol=0)


def test_padded_batch_is_a_packed_sequence() -> None:
    ours, theirs = both()
    x, frames = torch.randn(3, 40, 6), torch.tensor([17, 40, 1])
    x[0, 17:], x[2, 1:] = 100.0, -100.0
    mask = frame_mask(frames / 40, 40)
    packed, _ = theirs(pack_padded_sequence(x, frames, batch_first=True, enforce_sorted=False))
    expected, _ = pad_packed_sequence(packed, batch_first=True)
    torch.testing.assert_close(ours(x, mask)[-1] * mask, expected, atol=1e-5, rtol=0)


def test_every_layer_is_given() -> None:
    ours, theirs = both(layers=3)
    outputs = ours(torch.randn(2, 11, 6))
    assert [tuple(output.shape) for output in outputs] == [(2, 11, 10)] * 3
