"""What the mixer's options promise beyond the contract of every lobe."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from speechbrain_ext.lobes.mixer import MLPMixer
from speechbrain_ext.nnet.aggregation import JoinedOutputs
from tests.lobes.published_networks import randomise_norms

small = partial(MLPMixer, input_size=6, channels=16, num_blocks=2, lin_neurons=8)


@pytest.mark.parametrize("subsampling", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 8, 9, 30])
def test_subsampling_counts_frames_and_misses_none(subsampling: int, frames: int) -> None:
    network = randomise_norms(small(subsampling=subsampling)).eval()
    feats = torch.randn(1, frames, 6, requires_grad=True)
    _, hidden = network.forward_intermediates(feats)
    assert [x.shape[1] for x in hidden] == 2 * [(frames - 1) // subsampling + 1]
    first = network.front_conv(feats.transpose(1, 2))
    (gradient,) = torch.autograd.grad(first.sum(), feats)
    assert (gradient[0].abs().sum(dim=1) > 0).all()


@pytest.mark.parametrize("subsampling", [2, 3, 4])
def test_subsampled_utterances_of_any_length_may_be_padded(subsampling: int) -> None:
    """Every remainder of the division, with something loud in the padding."""
    network = randomise_norms(small(subsampling=subsampling)).eval()
    counts = torch.arange(1, 14)
    feats = torch.randn(len(counts), 13, 6)
    for row, count in enumerate(counts):
        feats[row, count:] = 1e3
    with torch.no_grad():
        together, layers = network(feats, counts / 13, intermediates=True)
        for row, count in enumerate(counts):
            alone, own = network(feats[row : row + 1, :count], intermediates=True)
            torch.testing.assert_close(together[row], alone[0], atol=1e-5, rtol=1e-5)
            left = own[0].shape[1]
            torch.testing.assert_close(layers[1][row, :left], own[1][0], atol=1e-5, rtol=1e-5)


def test_half_the_frames_are_every_second_one_of_the_first_convolution() -> None:
    whole, half = randomise_norms(small()).eval(), small(subsampling=2).eval()
    half.load_state_dict(whole.state_dict())
    feats = torch.randn(2, 31, 6)
    every = F.relu(whole.front_norm(whole.front_conv(feats.transpose(1, 2)).transpose(1, 2)))
    expected = whole.blocks[0](every[:, ::2])
    found = half.forward_intermediates(feats)[1][0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_a_step_over_no_frames_is_refused() -> None:
    with pytest.raises(ValueError, match="subsampling=0"):
        small(subsampling=0)


def test_joined_outputs_are_a_convolution_of_width_1_over_all_blocks() -> None:
    network = randomise_norms(small(aggregation=JoinedOutputs)).eval()
    feats = torch.randn(2, 31, 6)
    embedding, hidden = network.forward_intermediates(feats)
    join = network.aggregation
    assert isinstance(join, JoinedOutputs) and [x.shape[2] for x in hidden] == [16, 16]
    conv = nn.Conv1d(32, 16, 1)
    dense = join.dense.state_dict()
    conv.load_state_dict({"weight": dense["weight"].unsqueeze(2), "bias": dense["bias"]})
    joined = conv(torch.cat(hidden, dim=2).transpose(1, 2)).relu().transpose(1, 2)
    pooled = network.pooling(network.norm(joined))
    expected = network.fc_norm(network.fc(pooled)).unsqueeze(1)
    torch.testing.assert_close(embedding, expected, atol=1e-5, rtol=1e-5)
