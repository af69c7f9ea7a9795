"""Speaker models that come as one file, an ONNX graph or a TorchScript program, as lobes."""

from __future__ import annotations

import io
import os
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from speechbrain_ext.errors import UserError
from speechbrain_ext.formats import FEATURES, SAMPLE_RATE, SCALES, framework_of, other_features
from speechbrain_ext.interfaces import FrontEnd
from speechbrain_ext.lobes.features import Waveforms
from speechbrain_ext.lobes.kaldi_fbank import KaldiFbank
from speechbrain_ext.lobes.taken_along import TrainedModel, one_line
from speechbrain_ext.nnet.normalization import UtteranceNorm

FRAMEWORKS = tuple(FEATURES)


class _Said(NamedTuple):
    """What a file says of itself: the toolkit's name if it does, and ``metadata_props``."""

    framework: str | None
    properties: Mapping[str, str]


class ForeignModel(TrainedModel):
    """A speaker model in one file, from waveforms (B, samples) to embeddings; it does not learn.

    The file's bytes are its only state, so that an experiment folder holds all of it and a digest
    of the weights is one of the model.

    Arguments
    ---------
    path : str or path, optional
        The file. Without it ``num_bytes``, ``framework`` and ``embedding_size`` say what will be
        loaded.
    framework : str, optional
        Whose features the model reads: ``wespeaker``, ``3d-speaker`` or ``waveform``; what the file
        says by default.
    n_mels : int
        Bands of the features.
    num_bytes, embedding_size : int
        Size of the file, and D.
    scale : float, optional
        What samples in [-1, 1] are multiplied by for the features; what the file says by default,
        or its framework does.
    window : str, optional
        Of the features; likewise.

    Raises
    ------
    UserError
        When the file is missing, is none, or does not make one embedding of one waveform.
    """

    suffixes: tuple[str, ...]

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        framework: str | None = None,
        n_mels: int = 80,
        num_bytes: int = 0,
        embedding_size: int = 0,
        scale: float | None = None,
        window: str | None = None,
    ) -> None:
        super().__init__()
        self._made: Any = None
        self.register_buffer("file", torch.zeros(num_bytes, dtype=torch.uint8))
        self.file: Tensor
        said = _Said(framework, {})
        if path is not None:
            self.file = torch.from_numpy(np.fromfile(_existing(path), dtype=np.uint8))
            said = self._describe(path)
        self.framework = _framework(framework or said.framework, path, self.suffixes)
        features = FEATURES[self.framework]
        self.features: FrontEnd = Waveforms()
        self.norm: nn.Module | None = None
        if features is not None:
            if other := other_features(said.properties):
                raise UserError(f"{path} {other}: give another model", code="bad-model")
            scale = scale or SCALES.get(said.properties.get("normalize_samples", ""))
            window = window or said.properties.get("window_type")
            features = features if scale is None else {**features, "scale": scale}
            features = features if window is None else {**features, "window": window}
            self.features = KaldiFbank(n_mels, **features)
            self.norm = UtteranceNorm(std_norm=False)
        self.scale, self.window = scale, window
        self.embedding_size = embedding_size or self._checked_size(path, said)
        self.eval()

    @property
    def build_arguments(self) -> dict[str, Any]:
        """What makes this network without the file."""
        return {
            "path": None,
            "framework": self.framework,
            "num_bytes": self.file.numel(),
            "embedding_size": self.embedding_size,
            "scale": self.scale,
            "window": self.window,
        }

    @abstractmethod
    def _describe(self, path: str | os.PathLike[str]) -> _Said:
        """Read what the file says of itself."""

    @abstractmethod
    def _load(self, device: torch.device) -> Any:
        """Make what runs from the bytes."""

    @abstractmethod
    def _run(self, model: Any, x: Tensor) -> Tensor:
        """Embed whole utterances, of one length (b, T, F) or (b, samples)."""

    def _bytes(self) -> bytes:
        return self.file.cpu().numpy().tobytes()

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._made = None
        super()._load_from_state_dict(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what runs, which is made again from the bytes."""
        return {**super().__getstate__(), "_made": None}

    def _embed(self, wavs: Tensor) -> Tensor:
        """Embeddings (b, 1, D) of whole utterances (b, samples)."""
        if self._made is None or self._made[0] != wavs.device:
            self._made = (wavs.device, self._load(wavs.device))
        x = self.features(wavs)
        x = x if self.norm is None else self.norm(x)
        return self._run(self._made[1], x).to(wavs.device).float().reshape(len(wavs), 1, -1)

    def _checked_size(self, path: Any, said: _Said) -> int:
        """D, which is what the file says that it is."""
        remedy = (
            f"say what it reads with --framework {' or '.join(FRAMEWORKS)} (run.sh: --teacher_args "
            "'--framework NAME'), or give another"
        )
        size = self._measure(path, f"{self.framework} input", f"{remedy} model")
        told = said.properties.get("output_dim")
        if told is not None and told != str(size):
            raise UserError(
                f"{path} says output_dim {told} in its metadata and gives {size} numbers: "
                "export it again, or give another model",
                code="bad-model",
            )
        return size


class OnnxModel(ForeignModel):
    """An ONNX file: features or waveform in, embedding out; run by ONNX Runtime.

    The metadata that sherpa-onnx, WeSpeaker and 3D-Speaker write say what it reads: ``framework``,
    ``output_dim``, ``sample_rate`` and ``normalize_samples``, and ours ``window_type``. Features
    are those that the model was trained on, less their mean over time; a file that says others is
    refused. It runs on CUDA where the waveforms are there and ONNX Runtime can.

    Arguments are those of :class:`ForeignModel`.

    Raises
    ------
    UserError
        When ONNX Runtime is not installed; when the file cannot be read, has several inputs, is
        for another sampling rate, or says something else than it does.
    """

    suffixes = (".onnx",)
    extra = "export"

    def _describe(self, path: str | os.PathLike[str]) -> _Said:
        session = self._load(torch.device("cpu"), path)
        properties = session.get_modelmeta().custom_metadata_map
        inputs = session.get_inputs()
        if len(inputs) != 1:
            raise UserError(
                f"{path} has {len(inputs)} inputs ({', '.join(x.name for x in inputs)}), and only "
                "a model of one input, features or waveform, can teach: export it so",
                code="bad-model",
            )
        rate = properties.get("sample_rate", str(SAMPLE_RATE))
        if rate != str(SAMPLE_RATE):
            raise UserError(
                f"{path} is for speech of {rate} Hz, and here it has {SAMPLE_RATE} Hz: "
                "give another model",
                code="bad-model",
            )
        (named,) = inputs
        framework = framework_of(properties, named.name, len(named.shape))
        return _Said(framework, properties)

    def _load(self, device: torch.device, path: Any = "the kept ONNX model") -> Any:
        try:
            import onnxruntime
        except ModuleNotFoundError:
            raise UserError(
                f"{path} needs ONNX Runtime: pip install 'speechbrain_ext[export]'",
                code="missing-package",
            ) from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        providers = ["CPUExecutionProvider"]
        if (
            device.type == "cuda"
            and "CUDAExecutionProvider" in onnxruntime.get_available_providers()
        ):
            providers.insert(0, "CUDAExecutionProvider")
        try:
            return onnxruntime.InferenceSession(self._bytes(), options, providers=providers)
        except Exception as error:  # ONNX Runtime has its own, one for each fault
            raise UserError(
                f"{path} is no ONNX model that ONNX Runtime takes ({one_line(error)}): give "
                "another",
                code="bad-model",
            ) from None

    def _run(self, model: Any, x: Tensor) -> Tensor:
        (named,) = model.get_inputs()
        wanted = model.get_outputs()[0].name
        parts = x.cpu().numpy()
        single = isinstance(named.shape[0], int) and named.shape[0] == 1
        batches = [parts[i : i + 1] for i in range(len(parts))] if single else [parts]
        outputs = [model.run([wanted], {named.name: batch})[0] for batch in batches]
        return torch.from_numpy(np.concatenate(outputs))


class TorchScriptModel(ForeignModel):
    """A TorchScript program that ``torch.jit.save`` wrote: features or waveform in, embedding out.

    It says nothing of itself: ``framework`` tells what it reads. A program is run when it is
    loaded: take it only from somebody you trust.

    Arguments are those of :class:`ForeignModel`.

    Raises
    ------
    UserError
        When the file cannot be read.
    """

    suffixes = (".pt", ".ts", ".jit")

    def _describe(self, path: str | os.PathLike[str]) -> _Said:
        self._load(torch.device("cpu"), path)
        return _Said(None, {})

    def _load(self, device: torch.device, path: Any = "the kept TorchScript model") -> Any:
        try:
            return torch.jit.load(io.BytesIO(self._bytes()), map_location=device).eval()
        except Exception as error:  # a damaged file fails in many ways
            raise UserError(
                f"{path} is no TorchScript program ({one_line(error)}): give a file that "
                "torch.jit.save wrote",
                code="bad-model",
            ) from None

    def _run(self, model: Any, x: Tensor) -> Tensor:
        output = model(x)
        return output if isinstance(output, Tensor) else output[0]


def _existing(path: str | os.PathLike[str]) -> Path:
    if not Path(path).is_file():
        raise UserError(f"{path}: there is no such file; give a model.", code="missing-file")
    return Path(path)


def _framework(name: str | None, path: Any, suffixes: tuple[str, ...]) -> str:
    if name not in FEATURES:
        said = "does not say what it reads" if name is None else f"is of the framework {name!r}"
        raise UserError(
            f"{path} {said}: say whose features with --framework {' or '.join(FRAMEWORKS)} "
            "(run.sh: --teacher_args '--framework NAME')",
            code="bad-model",
        )
    return name
