"""A long utterance goes through the mixer's blocks in pieces, and its embedding is the same."""

from __future__ import annotations

import pytest
import torch

from speechbrain_ext.lobes import mixer
from tests.lobes.systems import make_lobe

REACHES = {"mixer": 3, "quarter": 3, "v5": 15, "token_mlp": None, "hybrid_lstm": None}


@pytest.mark.parametrize("name", REACHES)
def test_what_a_frame_depends_on(name: str) -> None:
    """By the gradient of one of the frames that are pooled: no frame farther away has any."""
    lobe = make_lobe(name)
    assert lobe.reach == REACHES[name]
    if lobe.reach is None:
        return
    step, middle = lobe.subsampling, 40
    feats = torch.randn(1, 81 * step, 80, requires_grad=True)
    frames, _ = lobe._frames(feats, None)
    frames[0, middle].sum().backward()
    assert feats.grad is not None
    touched = feats.grad[0].abs().sum(1).nonzero().flatten() / step
    assert (touched - middle).abs().max() <= lobe.reach


@pytest.mark.parametrize("name", [name for name, reach in REACHES.items() if reach is not None])
@pytest.mark.parametrize("frames", [1, 2, 397, 400, 401, 403])
def test_pieces_give_the_same(name: str, frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    lobe, feats = make_lobe(name), torch.randn(3, frames, 80)
    lengths = torch.tensor([1.0, 0.55, 0.3])
    with torch.no_grad():
        expected = [lobe(feats), lobe(feats, lengths)]
        sizes: list[int] = []
        whole = lobe._frames

        def counted(part: torch.Tensor, *rest: object) -> object:
            sizes.append(part.shape[1])
            return whole(part, *rest)

        monkeypatch.setattr(mixer, "rows_of_piece", lambda *_, **__: 17)
        monkeypatch.setattr(lobe, "_frames", counted)
        found = [lobe(feats), lobe(feats, lengths)]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    frames_of_blocks = (frames - 1) // lobe.subsampling + 1
    assert len(sizes) == 2 * (-(-frames_of_blocks // 17) if frames_of_blocks > 34 else 1)


def test_a_training_is_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its batch norms count the frames of the whole batch."""
    lobe = make_lobe("mixer").train()
    monkeypatch.setattr(lobe, "_frames_in_pieces", None)
    with torch.no_grad():
        lobe(torch.randn(2, 200, 80))
