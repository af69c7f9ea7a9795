"""How a model folder decides in the engines themselves, each of which computes its own features.

    python -m tools.check_engines exp/mine/v6/seed_1/export data/mine/manifests --out engines.json

Every trial list of the corpus is scored by sherpa-onnx, by WeSpeaker's pipeline (kaldi-native-fbank
before ONNX Runtime) and by pyannote, where these are installed, with the file that reads features;
and by ONNX Runtime with the file that reads waveforms, which embeds as PyTorch does. With
`--precision int8` the INT8 files are taken.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from speechbrain_ext.corpora.corpus import Corpus
from speechbrain_ext.errors import UserError, friendly_exit
from speechbrain_ext.export.engine_files import ENDINGS
from speechbrain_ext.export.parity import GraphEncoder, compare_decisions, open_session
from speechbrain_ext.files import atomic_path
from speechbrain_ext.formats import SAMPLE_RATE
from speechbrain_ext.verification.tables import markdown_table

Embed = Callable[[np.ndarray], np.ndarray]  # of samples (N,) in [-1, 1]
OURS = "waveform.onnx"


def sherpa_onnx(model: Path) -> Embed:
    """sherpa-onnx's extractor."""
    import sherpa_onnx

    config = sherpa_onnx.SpeakerEmbeddingExtractorConfig(model=str(model))
    extractor = sherpa_onnx.SpeakerEmbeddingExtractor(config)

    def embed(wav: np.ndarray) -> np.ndarray:
        stream = extractor.create_stream()
        stream.accept_waveform(SAMPLE_RATE, wav)
        stream.input_finished()
        return np.array(extractor.compute(stream), np.float32)

    return embed


def wespeaker(model: Path) -> Embed:
    """What WeSpeaker's inference does: Hamming windows, 16-bit numbers, less the features' mean."""
    import kaldi_native_fbank as knf

    options = knf.FbankOptions()
    options.frame_opts.dither = 0.0
    options.frame_opts.window_type = "hamming"
    options.frame_opts.samp_freq = SAMPLE_RATE
    options.mel_opts.num_bins = 80
    session = open_session(model)

    def embed(wav: np.ndarray) -> np.ndarray:
        bank = knf.OnlineFbank(options)
        bank.accept_waveform(SAMPLE_RATE, (wav * 32768).tolist())
        bank.input_finished()
        feats = np.stack([bank.get_frame(n) for n in range(bank.num_frames_ready)])
        feats = (feats - feats.mean(axis=0))[None].astype(np.float32)
        return session.run(["embs"], {"feats": feats})[0][0]

    return embed


def pyannote(model: Path) -> Embed:
    """pyannote's wrapper, which knows a model of WeSpeaker's by its path."""
    from pyannote.audio.pipelines.speaker_verification import PretrainedSpeakerEmbedding

    with tempfile.TemporaryDirectory(prefix="wespeaker_") as folder:
        copy = shutil.copy(model, Path(folder) / "speaker-embedding.onnx")
        extractor = PretrainedSpeakerEmbedding(str(copy))
    return lambda wav: extractor(torch.from_numpy(wav)[None, None])[0]


#: By name the package that an engine needs, and what makes it.
ENGINES = {
    "sherpa-onnx": ("sherpa_onnx", sherpa_onnx),
    "WeSpeaker": ("kaldi_native_fbank", wespeaker),
    "pyannote": ("pyannote.audio", pyannote),
}


def whole(embed: Embed) -> Callable[..., Tensor]:
    """Embed the utterances of a padded batch, (B, samples) of relative lengths (B,), apart."""

    def embed_batch(wavs: Tensor, lengths: Tensor | None = None) -> Tensor:
        shares = torch.ones(len(wavs)) if lengths is None else lengths
        counts = torch.round(shares.double() * wavs.shape[1]).long().tolist()
        parts = [embed(wav[:n].numpy()) for wav, n in zip(wavs, counts, strict=True)]
        return torch.from_numpy(np.stack(parts).astype(np.float32))

    return embed_batch


def installed(package: str) -> bool:
    """Whether a package is there; of ``a.b`` without running ``a`` where it is not."""
    parent = package.partition(".")[0]
    return importlib.util.find_spec(parent) is not None


def main(arguments: list[str] | None = None) -> None:
    """Print a table, and write its figures."""
    parser = argparse.ArgumentParser(description="Score trials in the engines themselves.")
    parser.add_argument("model", type=Path, help="folder that export.py wrote")
    parser.add_argument("manifests", type=Path, help="folder made by stage 1")
    parser.add_argument("--precision", choices=ENDINGS, default="fp32", help="of the files")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    args = parser.parse_args(arguments)

    features, waveforms = (
        args.model / (stem + ENDINGS[args.precision]) for stem in ("speaker-embedding", "waveform")
    )
    for path in (features, waveforms):
        if not path.is_file():
            raise UserError(
                f"{path} is missing: export a student of Kaldi's filter bank with this precision, "
                "by export.py --formats",
                code="missing-file",
            )
    encoders: dict[str, Callable[..., Tensor]] = {OURS: GraphEncoder(waveforms)}
    for name, (package, make) in ENGINES.items():
        if installed(package):
            encoders[name] = whole(make(features))
        else:
            print(f"{name} is left out: {package} is not installed")
    found = compare_decisions(encoders, Corpus.read(args.manifests))
    with atomic_path(args.out) as temporary:
        temporary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    lines = []
    for name, lists in found.items():
        for trials in lists:
            between = trials["difference_interval_95"]
            interval = "" if between is None else " [{:+.2f}, {:+.2f}]".format(*between)
            difference = f"{trials['difference']:+.2f}{interval}"
            score = f"{trials['score_difference']:.3f}"
            lines.append([name, trials["title"], f"{trials['eer']:.2f}", difference, score])
    headings = ["Engine", "Trials", "EER %", f"to {OURS}", "median of a score's difference"]
    print(markdown_table(headings, lines))


if __name__ == "__main__":
    with friendly_exit():
        main()
