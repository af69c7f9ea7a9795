"""How near a graph in another engine is to the network in PyTorch, on real speech."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from speechbrain_ext.audio import read_utterance
from speechbrain_ext.corpora.corpus import Corpus
from speechbrain_ext.corpora.manifest import read_manifest
from speechbrain_ext.formats import SAMPLE_RATE
from speechbrain_ext.inference.extraction import embed_batch, tell_unusable, utterance_loader
from speechbrain_ext.interfaces import FrontEnd
from speechbrain_ext.progress import progress_bar
from speechbrain_ext.verification.comparison import Comparison
from speechbrain_ext.verification.embeddings import Embeddings
from speechbrain_ext.verification.scores import cosine_scores

#: Lengths of speech, in seconds, that are compared.
SECONDS = (0.5, 1.0, 2.0, 5.0, 20.0, 60.0)
#: The cosine that a format reaches at each of them, or is not written.
LEAST_COSINE = {"fp32": 0.9999, "fp16": 0.999, "int8": 0.99}


def open_session(path: str | os.PathLike[str], threads: int = 1) -> onnxruntime.InferenceSession:
    """A graph in ONNX Runtime, on so many threads of the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(os.fspath(path), options, ["CPUExecutionProvider"])


class GraphEncoder:
    """A graph in ONNX Runtime, which embeds waveforms as a speaker encoder does.

    Utterances are embedded apart: a graph knows no lengths.

    Arguments
    ---------
    path : str or path
        The ONNX file, of one input and one output.
    front_end : FrontEnd, optional
        What computes the features of a graph that reads them; without it the graph reads waveforms.
    threads : int
        Of the CPU.
    """

    def __init__(
        self, path: str | os.PathLike[str], front_end: FrontEnd | None = None, threads: int = 1
    ) -> None:
        self.session = open_session(path, threads)
        self.front_end = front_end
        (self._input,) = (entry.name for entry in self.session.get_inputs())

    def __call__(self, wavs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Embed waveforms (B, samples) of relative lengths (B,) to (B, D)."""
        shares = torch.ones(len(wavs)) if lengths is None else lengths
        samples = torch.round(shares.double() * wavs.shape[1]).long().tolist()
        parts = [self._embed(wav[None, :n]) for wav, n in zip(wavs, samples, strict=True)]
        return torch.from_numpy(np.concatenate(parts))

    def _embed(self, wav: Tensor) -> np.ndarray:
        given = wav if self.front_end is None else self.front_end(wav)
        (found,) = self.session.run(None, {self._input: given.numpy()})
        return found


def joined_speech(rows: Iterable[Mapping[str, Any]], seconds: float = max(SECONDS)) -> Tensor:
    """Utterances of a manifest one after another, (samples,), and again from the first.

    Arguments
    ---------
    rows : iterable of mapping
        Lines of a manifest.
    seconds : float
        How much speech.
    """
    needed, parts, total = round(seconds * SAMPLE_RATE), [], 0
    rows = list(rows)
    while total < needed:
        for row in rows:
            with tell_unusable(row["wav"]):
                parts.append(read_utterance(row["wav"], int(row["start"]), int(row["stop"])))
            total += len(parts[-1])
            if total >= needed:
                break
    return torch.cat(parts)[:needed]


@torch.no_grad()
def compare(
    encoder: Callable[[Tensor], Tensor],
    other: Callable[[Tensor], Tensor],
    speech: Tensor,
    seconds: Sequence[float] = SECONDS,
) -> list[dict[str, float]]:
    """Compare two encoders on the first seconds of some speech.

    Arguments
    ---------
    encoder, other : callable
        From waveforms (1, samples) to embeddings (1, D) or (1, 1, D).
    speech : Tensor
        (samples,), as long as the longest.
    seconds : sequence of float
        Lengths.

    Returns
    -------
    list of dict
        ``seconds``, ``cosine`` and ``difference``, the largest of a number of the embedding, for
        each length.

    Example
    -------
    >>> twice = lambda wavs: 2 * torch.ones_like(wavs)
    >>> found = compare(torch.ones_like, twice, torch.zeros(16000), [1.0])
    >>> round(found[0]["cosine"], 6), found[0]["difference"]
    (1.0, 1.0)
    """
    figures = []
    for length in seconds:
        wav = speech[None, : round(length * SAMPLE_RATE)]
        one, two = (each(wav).flatten().double() for each in (encoder, other))
        cosine = torch.nn.functional.cosine_similarity(one, two, dim=0)
        difference = (one - two).abs().max()
        figures.append(
            {"seconds": length, "cosine": float(cosine), "difference": float(difference)}
        )
    return figures


def compare_decisions(
    encoders: Mapping[str, Callable[..., Tensor]], corpus: Corpus
) -> dict[str, list[dict[str, Any]]]:
    """The error rates of encoders on the trial lists of a corpus.

    Arguments
    ---------
    encoders : mapping
        Encoders of waveforms by name; the others are compared with the first.
    corpus : Corpus
        Whose lists are scored.

    Returns
    -------
    dict
        By name, for each list ``trials``, ``title``, ``eer``, ``interval_95``, ``difference`` to
        the first in points, ``difference_interval_95``, and ``score_difference``, that of a score
        to the first's in half of the trials at most. Intervals are None of lists with few speakers.
    """
    first = next(iter(encoders))
    figures: dict[str, list[dict[str, Any]]] = {name: [] for name in encoders}
    embedded = {name: _embed(name, encoder, corpus) for name, encoder in encoders.items()}
    for entry in corpus.lists.values():
        trials, speakers = corpus.trials(entry)
        scores = {
            name: {0: cosine_scores(trials, sets[entry["set"]])} for name, sets in embedded.items()
        }
        sides = speakers[trials.enrol_index], speakers[trials.test_index]
        compared = Comparison(scores, trials.labels, *sides)
        for name in encoders:
            difference = compared.difference(name, first)
            assert difference is not None  # both have the run
            interval = compared.interval(name)
            between = None if difference.low is None else [difference.low, difference.high]
            figures[name].append(
                {
                    "trials": entry["name"],
                    "title": entry["title"],
                    "eer": compared.eers[name][0],
                    "interval_95": interval and list(interval),
                    "difference": difference.value,
                    "difference_interval_95": between,
                    "score_difference": float(
                        np.median(np.abs(scores[name][0] - scores[first][0]))
                    ),
                }
            )
    return figures


def _embed(name: str, encoder: Callable[..., Tensor], corpus: Corpus) -> dict[str, Embeddings]:
    found = {}
    for part in corpus.sets:
        rows = read_manifest(corpus.manifests / f"{part}.csv")
        vectors: dict[str, np.ndarray] = {}
        for batch in progress_bar(utterance_loader(rows), desc=f"{name}: embedding {part}"):
            vectors.update(embed_batch(encoder, batch))
        found[part] = Embeddings(list(vectors), np.stack(list(vectors.values())), "")
    return found
