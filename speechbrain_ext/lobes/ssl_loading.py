"""Reading a WavLM, HuBERT or wav2vec 2.0 by SpeechBrain's integrations, as deep as is needed."""

from __future__ import annotations

import importlib
import importlib.util
import pickle
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from torch import nn

from speechbrain_ext.errors import MissingPackage, UserError
from speechbrain_ext.lobes.ssl_source import CONFIG, check_ssl_folder, find_weights

#: Modules and classes of ``speechbrain.integrations.huggingface`` by ``model_type``.
WRAPPERS = {"wavlm": "WavLM", "hubert": "HuBERT", "wav2vec2": "Wav2Vec2"}
_UNREADABLE = (
    OSError,
    RuntimeError,
    ValueError,
    KeyError,
    EOFError,
    pickle.UnpicklingError,
    SafetensorError,
    # A file that torch.load reads, but which has other things than tensors by their names.
    AttributeError,
    TypeError,
)


_LAYER = re.compile(r"encoder\.layers\.(\d+)\.")


class LoadedModel(NamedTuple):
    """A model of transformers, whether it wants normalised waveforms, and the layers chosen."""

    model: Any
    normalize: bool
    chosen: list[int]


def require_transformers() -> None:
    """Refuse to go on without transformers.

    Raises
    ------
    MissingPackage
        Saying what to install.
    """
    if importlib.util.find_spec("transformers") is None:
        raise MissingPackage(
            "WavLM, HuBERT and wav2vec 2.0 need transformers, which is not installed: "
            'pip install "speechbrain_ext[ssl]"'
        )


def choose_layers(layers: Sequence[int] | None, depth: int) -> list[int]:
    """The layers of a model, in their order.

    Arguments
    ---------
    layers : sequence of int, optional
        Layers, 0 being the Transformer's input; the last one by default.
    depth : int
        Layers of the Transformer.

    Returns
    -------
    list of int
        The layers, sorted.

    Raises
    ------
    ValueError
        For no layers, one that is named twice, or one that does not exist.

    Example
    -------
    >>> choose_layers([12, 4], depth=12), choose_layers(None, depth=24)
    ([4, 12], [24])
    """
    if layers is None:
        return [depth]
    if not isinstance(layers, Sequence) or isinstance(layers, str):
        raise ValueError(f"layers must be a list such as [{depth}], got {layers!r}")
    chosen = list(layers)
    if not chosen or len(set(chosen)) < len(chosen):
        raise ValueError(f"layers must name at least one layer and none twice, got {chosen}")
    for layer in chosen:
        if type(layer) is not int or not 0 <= layer <= depth:
            raise ValueError(f"layers has {layer!r}: the model has layers 0 to {depth}")
    return sorted(chosen)


def load_ssl_model(
    folder: Path, architecture: str, layers: Sequence[int] | None, weights: bool = True
) -> LoadedModel:
    """Read a model in float32, without the layers of the Transformer above the highest chosen one.

    Weights are safetensors, or are read by ``torch.load`` with ``weights_only=True``; code that
    comes with a model is never run. SpecAugment and layer drop are off; dropout is the
    configuration's. Loggers, progress bars and the random state are left as they were.

    Arguments
    ---------
    folder : Path
        From :func:`~speechbrain_ext.lobes.ssl_source.find_model`.
    architecture : str
        "wavlm", "hubert" or "wav2vec2".
    layers : sequence of int, optional
        See :func:`choose_layers`.
    weights : bool
        Whether weights are read. Otherwise they are at random, for others to be loaded.

    Returns
    -------
    LoadedModel
        Its model's ``last_hidden_state`` is the highest chosen layer.

    Raises
    ------
    UserError
        When the folder or what it holds cannot be used.
    ValueError
        For layers that do not exist.
    """
    check_ssl_folder(folder, architecture, weights)
    wrapper: Any = getattr(
        importlib.import_module(f"speechbrain.integrations.huggingface.{architecture}"),
        WRAPPERS[architecture],
    )
    with _quietly():
        config = _read_config(folder)
        chosen = choose_layers(layers, config.num_hidden_layers)

        class Loader(wrapper):
            """SpeechBrain's wrapper, reading no more than is needed and checking it."""

            def override_config(self, config: Any) -> Any:
                config.num_hidden_layers = chosen[-1]
                config.apply_spec_augment, config.layerdrop = False, 0.0
                # No masks, hence no embedding of what is masked: DDP wants no idle parameters.
                config.mask_time_prob = config.mask_feature_prob = 0.0
                config.add_adapter = False
                return config

            def _from_pretrained(self, source: str, *args: Any, **kwargs: Any) -> None:
                if not weights:
                    self.model = self.auto_class.from_config(self.config)
                    return
                self.model, report = self.auto_class.from_pretrained(
                    source,
                    config=self.config,
                    local_files_only=True,
                    weights_only=True,
                    ignore_mismatched_sizes=True,
                    output_loading_info=True,
                )
                _check_report(folder, self.model, report)
                _check_depth(folder, self.model, report, config.num_hidden_layers)

        try:
            loaded = Loader(str(folder), save_path=None)
        except _UNREADABLE as error:
            raise UserError(
                f"{find_weights(folder)} cannot be read as the weights that {folder / CONFIG} "
                f"describes ({_reason(error)}): download the model again (git lfs pull in a clone)",
                code="bad-weights",
            ) from error
    model = loaded.model.float()
    if chosen[-1] < config.num_hidden_layers and config.do_stable_layer_norm:
        # Belongs to the last layer of all: hidden states before it are not normalised.
        model.encoder.layer_norm = nn.Identity()
    return LoadedModel(model, loaded.normalize_wav, chosen)


def _read_config(folder: Path) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # validated by dataclasses with errors of their own
        raise UserError(
            f"{folder / CONFIG} cannot be used ({_reason(error)}): download it again",
            code="damaged-file",
        ) from error


def _check_report(folder: Path, model: nn.Module, report: dict[str, Any]) -> None:
    """Refuse weights that leave parameters at random, of which transformers only warns."""
    misfits = {key for key, *_ in report["mismatched_keys"]}
    missing = sorted(misfits | set(report["missing_keys"]))
    if missing:
        raise UserError(
            f"{find_weights(folder)} lacks {len(missing)} of {len(model.state_dict())} tensors of "
            f"the model, or has them in other sizes, {missing[0]} for one: it is of another model, "
            f"give the one that {folder / CONFIG} describes",
            code="other-network",
        )


def _check_depth(folder: Path, model: nn.Module, report: dict[str, Any], depth: int) -> None:
    """Refuse a configuration of another number of layers: the last norm would be misplaced."""
    names = [*model.state_dict(), *report["unexpected_keys"]]
    layers = {int(found[1]) for found in map(_LAYER.search, names) if found}
    if layers and len(layers) != depth:
        raise UserError(
            f"{folder / CONFIG} says {depth} layers, and {find_weights(folder)} has {len(layers)}: "
            "give the one that belongs to the other",
            code="other-network",
        )


def _reason(error: Exception) -> str:
    """The first line of what an error says."""
    if isinstance(error, pickle.UnpicklingError):
        return "it holds other things than tensors"  # torch.load advises to trust it
    lines = [line.strip(" :") for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


@contextmanager
def _quietly() -> Iterator[None]:
    """No reports, no progress bars and no random numbers drawn inside the block."""
    from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    hub_bars = not are_progress_bars_disabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
        elif hub_bars:
            enable_progress_bars()
