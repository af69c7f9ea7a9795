"""An ONNX file in ONNX Runtime: what it reads, and embeddings of it."""

from __future__ import annotations

import numpy as np
import onnxruntime

from speechbrain_ext.errors import UserError
from speechbrain_ext.formats import FEATURES, SAMPLE_RATE, SCALES, framework_of, other_features
from speechbrain_ext.runtime.features import Fbank, filter_bank


class Engine:
    """A speaker model of one input, waveform or features, and one embedding.

    Arguments
    ---------
    content : bytes
        The file; weights in further files are not read.
    name : str
        What it is called in errors.
    threads : int
        Of the CPU.

    Raises
    ------
    UserError
        When it cannot be loaded, or is no speaker model that is known here.
    """

    def __init__(self, content: bytes, name: str, threads: int = 1) -> None:
        self.name = name
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.enable_mem_pattern = False  # a plan for each length would be kept
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime has its own, one for each fault
            raise self._refused(f"cannot be loaded ({_first_line(error)})") from None
        given = self._session.get_inputs()
        if len(given) != 1 or len(given[0].shape) not in (2, 3):
            raise self._refused("has not one input, of waveforms or of features")
        (self._input,) = given
        self._output = self._session.get_outputs()[0].name
        self._type = np.float16 if self._input.type == "tensor(float16)" else np.float32
        about = self._session.get_modelmeta().custom_metadata_map
        self.sample_rate = self._number(about.get("sample_rate", str(SAMPLE_RATE)), "sample_rate")
        self.fbank = self._filter_bank(about)
        try:
            self.dim = len(self._run(self._example())[0])
        except UserError:
            raise self._refused("does not embed a second of noise") from None

    @property
    def reads(self) -> str:
        """``waveform`` or ``features``."""
        return "waveform" if self.fbank is None else "features"

    def embed(self, samples: np.ndarray) -> np.ndarray:
        """Embed waveforms of one length, (B, samples) float32, to (B, D) float32."""
        if self.fbank is None:
            return self._run(samples)
        return self.embed_features(np.stack([self.fbank(each) for each in samples]))

    def embed_features(self, features: np.ndarray) -> np.ndarray:
        """Embed features of one length, (B, T, F) float32, to (B, D) float32.

        Raises
        ------
        UserError
            When the file reads waveforms.
        """
        if self.fbank is None:
            raise UserError(
                f"{self.name} reads waveforms: give the speaker-embedding.onnx of the model, or a "
                "waveform",
                code="wrong-input",
            )
        return self._run(features)

    def _run(self, given: np.ndarray) -> np.ndarray:
        given = given.astype(self._type, copy=False)
        alone = self._input.shape[0] == 1
        batches = [given[row : row + 1] for row in range(len(given))] if alone else [given]
        try:
            found = [self._session.run([self._output], {self._input.name: x})[0] for x in batches]
        except Exception as error:
            raise UserError(
                f"{self.name} does not embed what has the shape {given.shape} "
                f"({_first_line(error)}): give a longer recording, or another model",
                code="bad-model",
            ) from None
        return np.concatenate(found).reshape(len(given), -1).astype(np.float32, copy=False)

    def _example(self) -> np.ndarray:
        noise = np.random.default_rng(0).normal(0, 0.1, self.sample_rate).astype(np.float32)
        return (noise if self.fbank is None else self.fbank(noise))[None]

    def _filter_bank(self, about: dict[str, str]) -> Fbank | None:
        framework = framework_of(about, self._input.name, len(self._input.shape))
        if framework not in FEATURES:
            said = "does not say what" if framework is None else f"says {framework!r} of what"
            raise self._refused(f"{said} it reads, in the framework of its metadata")
        features = FEATURES[framework]
        if features is None:
            return None
        if other := other_features(about):
            raise self._refused(other)
        bands = self._input.shape[2]
        return filter_bank(
            self.sample_rate,
            bands if isinstance(bands, int) else 80,
            about.get("window_type", features["window"]),
            SCALES.get(about.get("normalize_samples", ""), features["scale"]),
        )

    def _number(self, text: str, key: str) -> int:
        if not text.isdecimal() or not 4000 <= int(text) <= 48000:
            raise self._refused(f"says {key} {text} in its metadata, which is none of speech")
        return int(text)

    def _refused(self, why: str) -> UserError:
        return UserError(f"{self.name} {why}: give another ONNX file", code="bad-model")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
