"""Several centres of a speaker, against a plain reading."""

from __future__ import annotations

import pytest
import torch
from speechbrain.lobes.models.ECAPA_TDNN import Classifier
from speechbrain.nnet.losses import LogSoftmaxWrapper
from torch.nn import functional as F

from speechbrain_ext.nnet.margins import InterTopKMargin
from speechbrain_ext.nnet.sub_centers import SubCenterClassifier


def test_the_nearest_centre_of_each_speaker_counts() -> None:
    classifier, embeddings = SubCenterClassifier(6, 5, 3), torch.randn(4, 1, 6)
    found = classifier(embeddings).detach()
    assert found.shape == (4, 1, 5)
    for row, embedding in enumerate(embeddings[:, 0]):
        for speaker, centers in enumerate(classifier.weight.detach()):
            cosines = [float(F.cosine_similarity(embedding, center, dim=0)) for center in centers]
            assert float(found[row, 0, speaker]) == pytest.approx(max(cosines), abs=1e-6)


def test_with_one_centre_it_is_speechbrains() -> None:
    ours, theirs = SubCenterClassifier(6, 5, 1), Classifier(6, out_neurons=5)
    with torch.no_grad():
        ours.weight.copy_(theirs.weight.unsqueeze(1))
    embeddings = torch.randn(4, 1, 6)
    torch.testing.assert_close(ours(embeddings), theirs(embeddings))


def test_only_the_nearest_centre_learns() -> None:
    classifier = SubCenterClassifier(2, 1, 3)
    with torch.no_grad():
        classifier.weight.copy_(torch.tensor([[[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]]))
    classifier(torch.tensor([[[0.5, 1.0]]])).sum().backward()
    assert classifier.weight.grad is not None
    assert (classifier.weight.grad[0].norm(dim=1) > 0).tolist() == [False, True, False]


def test_it_gives_what_the_margins_take() -> None:
    classifier, embeddings = SubCenterClassifier(6, 5, 3), torch.randn(4, 1, 6)
    loss = LogSoftmaxWrapper(InterTopKMargin(0.2, 30, k=2))(
        classifier(embeddings), torch.tensor([[0], [1], [2], [4]])
    )
    loss.backward()
    assert loss.isfinite() and classifier.weight.grad is not None


def test_centres_start_at_a_row_and_beside_it() -> None:
    torch.manual_seed(1)
    classifier, rows = SubCenterClassifier(64, 5, 3), 7 * torch.randn(5, 64)
    before = classifier.weight.detach().clone()
    classifier.start_at(rows)
    centers = classifier.weight.detach()
    torch.testing.assert_close(centers[:, 0], F.normalize(rows))
    torch.testing.assert_close(centers.norm(dim=-1), torch.ones(5, 3))
    cosines = F.cosine_similarity(centers[:, 1:], rows.unsqueeze(1), dim=-1)
    assert 0.98 < cosines.min() and cosines.max() < 0.9999
    # Where they go follows from their first weights, and those from the seed.
    directions = centers[:, 1:] - F.normalize(rows).unsqueeze(1)
    assert F.cosine_similarity(directions, before[:, 1:], dim=-1).min() > 0.8


def test_centres_that_started_together_part() -> None:
    torch.manual_seed(1)
    classifier = SubCenterClassifier(8, 2, 2)
    classifier.start_at(torch.eye(2, 8))
    places = F.normalize(torch.randn(4, 8))  # two of each speaker
    labels = torch.tensor([[0], [0], [1], [1]])
    loss = LogSoftmaxWrapper(InterTopKMargin(0.2, 10, k=1))
    optimizer = torch.optim.SGD(classifier.parameters(), lr=0.5)
    for _ in range(200):
        optimizer.zero_grad()
        loss(classifier(places.unsqueeze(1)), labels).backward()
        optimizer.step()
    between = F.cosine_similarity(classifier.weight[:, 0], classifier.weight[:, 1], dim=-1)
    assert between.max() < 0.9


@pytest.mark.parametrize("count", [0, -1])
def test_no_centre_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"sub_centers={count} must be at least 1"):
        SubCenterClassifier(6, 5, count)
