"""Where a WavLM, HuBERT or wav2vec 2.0 lies: in a folder, in the Hugging Face cache or on the hub.

Everything that can be wrong with it is found before its weights are read, and nothing is downloaded
without a line that says so.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from speechbrain.utils.logger import get_logger

from speechbrain_ext.errors import UserError
from speechbrain_ext.formats import SAMPLE_RATE

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
#: Files of weights, the preferred one first, and what an index points to.
WEIGHTS = {
    "model.safetensors": None,
    "model.safetensors.index.json": "model-*.safetensors",
    "pytorch_model.bin": None,
    "pytorch_model.bin.index.json": "pytorch_model-*.bin",
}

logger = get_logger(__name__)


def find_model(source: str, offline: bool = False) -> Path:
    """The folder of a model, downloaded if need be; see :func:`find_here`."""
    return find_here(source, offline) or _download(source)


def find_here(source: str, offline: bool = False) -> Path | None:
    """The folder of a model, or None where it is to be downloaded.

    Arguments
    ---------
    source : str
        A folder, or a name on the Hugging Face hub. A name is looked up in the cache first
        (``HF_HOME``, ``HF_HUB_CACHE``); no network is asked about a model that is there.
    offline : bool
        Whether the hub must not be asked. ``HF_HUB_OFFLINE=1`` says the same.

    Returns
    -------
    Path or None
        A folder.

    Raises
    ------
    UserError
        When there is no such folder, and the source is no name, or one that is not in the cache
        where the hub must not be asked.
    """
    if not isinstance(source, str):
        raise UserError(
            f"source is {source!r}: give the folder of a model, or a name on the Hugging Face hub",
            code="bad-setting",
        )
    folder = Path(source).expanduser()
    if source and folder.is_dir():
        return folder
    try:
        validate_repo_id(source)
    except HFValidationError:
        raise UserError(
            f"source '{source}' is not a folder: give one with a model's {CONFIG} and weights, or "
            "a name on the Hugging Face hub, such as microsoft/wavlm-large",
            code="missing-folder",
        ) from None
    cached = try_to_load_from_cache(source, CONFIG, cache_dir=constants.HF_HUB_CACHE)
    if isinstance(cached, str):
        folder = Path(cached).parent
        if _whole(folder):
            return folder
    if offline or constants.is_offline_mode():
        raise UserError(
            f"source '{source}' is not a folder, nor is it whole in the Hugging Face cache "
            f"{constants.HF_HUB_CACHE}, and offline is set: download it once with 'hf download "
            f"{source}', or give a folder",
            code="not-cached",
        )
    return None


def find_weights(folder: Path) -> Path | None:
    """The file of weights that is read, or the index of several; None where there is none."""
    return next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)


def _whole(folder: Path) -> bool:
    """Whether a folder of the cache has all that is read."""
    weights = find_weights(folder)
    if weights is None or not (folder / PREPROCESSOR).is_file():
        return False
    if WEIGHTS[weights.name] is None:
        return True
    shards = _read(weights, "download it again").get("weight_map", {})
    return all((folder / shard).is_file() for shard in set(shards.values()))


def read_description(folder: Path) -> dict[str, dict[str, Any]]:
    """What a folder holds besides weights, by the names of its files."""
    return {name: _read(folder / name, "copy it there") for name in (CONFIG, PREPROCESSOR)}


@contextmanager
def written_description(description: Mapping[str, Any]) -> Iterator[Path]:
    """A folder, inside the block, with what :func:`read_description` gave of another."""
    with tempfile.TemporaryDirectory() as folder:
        for name in (CONFIG, PREPROCESSOR):
            (Path(folder) / name).write_text(json.dumps(description[name]), encoding="utf-8")
        yield Path(folder)


def check_ssl_folder(folder: Path, architecture: str, weights: bool = True) -> None:
    """Refuse a folder that cannot be a teacher.

    Arguments
    ---------
    folder : Path
        The folder.
    architecture : str
        The ``model_type`` that its ``config.json`` must have.
    weights : bool
        Whether it must have weights.

    Raises
    ------
    UserError
        For a missing or unreadable ``config.json`` or ``preprocessor_config.json``, no weights,
        another architecture or another sample rate.
    """
    found = _read(folder / CONFIG, "give the folder of a model that transformers has saved").get(
        "model_type"
    )
    if found != architecture:
        raise UserError(
            f"{folder / CONFIG} is of the architecture '{found}', not '{architecture}': set the "
            "architecture to the model's, or give another model",
            code="other-network",
        )
    if weights and find_weights(folder) is None:
        raise UserError(
            f"{folder} has no weights (model.safetensors or pytorch_model.bin): copy them there",
            code="missing-file",
        )
    remedy = "it says whether waveforms are normalised, copy it from the model's page on the hub"
    rate = _read(folder / PREPROCESSOR, remedy).get("sampling_rate", SAMPLE_RATE)
    if rate != SAMPLE_RATE:
        raise UserError(
            f"{folder / PREPROCESSOR} has sampling_rate {rate}, and audio is read at "
            f"{SAMPLE_RATE} Hz: give a model of that rate",
            code="bad-model",
        )


def _read(path: Path, remedy: str) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"{path} does not exist: {remedy}", code="missing-file")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(
            f"{path} is not valid JSON ({error}): download it again", code="damaged-file"
        ) from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no settings: download it again", code="damaged-file")
    return content


def _download(name: str) -> Path:
    """Download the files that are needed, after a line that says what comes."""
    try:
        siblings = HfApi().model_info(name, files_metadata=True).siblings or []
        sizes = {file.rfilename: file.size or 0 for file in siblings}
        weights = next((file for file in WEIGHTS if file in sizes), None)
        if weights is None:
            raise UserError(
                f"source '{name}' has no weights on the hub: choose another model",
                code="missing-file",
            )
        wanted = [CONFIG, PREPROCESSOR, weights]
        parts = WEIGHTS[weights]
        known = sum(sizes.get(file, 0) for file in wanted)
        if parts is not None:
            wanted.append(parts)
            known += sum(size for file, size in sizes.items() if Path(file).match(parts))
        logger.warning(
            "Downloading %s (%.2f GB) from the Hugging Face hub to %s",
            name,
            known / 1e9,
            constants.HF_HUB_CACHE,
        )
        return Path(
            snapshot_download(name, allow_patterns=wanted, cache_dir=constants.HF_HUB_CACHE)
        )
    except UserError:
        raise
    except Exception as error:  # whatever a network, a hub and a disk come up with
        reason = next((line for line in str(error).splitlines() if line.strip()), "")
        raise UserError(
            f"source '{name}' is not a folder, and the Hugging Face hub does not give it "
            f"({type(error).__name__}: {reason}): check the name and the network, or give a folder",
            code="hub-refused",
        ) from error
