"""Finding and reading a WavLM, HuBERT or wav2vec 2.0: folders, cache, hub, and what is amiss."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from transformers.utils import logging as transformers_logging

from speechbrain_ext.lobes import ssl_source
from speechbrain_ext.lobes.ssl_encoder import SSLEncoder
from speechbrain_ext.systems.yaml import load_hparams
from tests.lobes.ssl_models import change_json, make_model_folder
from tests.refusals import refused


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A WavLM that may be damaged."""
    return make_model_folder(tmp_path / "model", conv_bias=True)


def test_the_constructor_is_silent_and_leaves_no_trace(
    folder: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    change_json(folder / "config.json", auto_map={"AutoModel": "code.Model"})  # is never run
    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    handlers = list(logging.getLogger().handlers)
    state = torch.random.get_rng_state()
    with caplog.at_level(logging.WARNING):
        SSLEncoder(str(folder), "wavlm", [1])
    assert torch.equal(state, torch.random.get_rng_state())
    assert transformers_logging.get_verbosity() == verbosity
    assert transformers_logging.is_progress_bar_enabled() == bars
    assert logging.getLogger().handlers == handlers
    assert not caplog.records and capfd.readouterr() == ("", "")


def remove(name: str, folder: Path) -> None:
    (folder / name).unlink()


def write(name: str, content: bytes, folder: Path) -> None:
    (folder / name).write_bytes(content)


def set_keys(name: str, values: dict[str, Any], folder: Path) -> None:
    change_json(folder / name, **values)


def rename_tensors(folder: Path) -> None:
    path = folder / "model.safetensors"
    save_file({f"other.{name}": tensor for name, tensor in load_file(path).items()}, path)


class Command:
    """What a pickle could run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch ran",)


def save_command(folder: Path) -> None:
    remove("model.safetensors", folder)
    torch.save({"encoder": Command()}, folder / "pytorch_model.bin")


def save_nested(folder: Path) -> None:
    """As other frameworks save a model, with the configuration of old models."""
    torch.save({"model": load_file(folder / "model.safetensors")}, folder / "pytorch_model.bin")
    remove("model.safetensors", folder)
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    settings = {key: value for key, value in settings.items() if "dtype" not in key}
    write("config.json", json.dumps(settings).encode(), folder)


FAULTS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "no config": (partial(remove, "config.json"), ("missing-file", "config.json")),
    "broken config": (partial(write, "config.json", b"{"), ("damaged-file", "config.json", "JSON")),
    "no settings": (partial(write, "config.json", b"[]"), ("damaged-file", "config.json")),
    "odd setting": (
        partial(set_keys, "config.json", {"hidden_size": "wide"}),
        ("damaged-file", "config.json", "hidden_size"),
    ),
    "other architecture": (
        partial(set_keys, "config.json", {"model_type": "hubert"}),
        ("other-network", "config.json", "'hubert'", "'wavlm'"),
    ),
    "no weights": (partial(remove, "model.safetensors"), ("missing-file", "model.safetensors")),
    "no preprocessor": (
        partial(remove, "preprocessor_config.json"),
        ("missing-file", "preprocessor_config.json"),
    ),
    "other sample rate": (
        partial(set_keys, "preprocessor_config.json", {"sampling_rate": 8000}),
        ("bad-model", "preprocessor_config.json", "8000", "16000 Hz"),
    ),
    "a pointer for weights": (
        partial(write, "model.safetensors", b"version https://git-lfs.github.com/spec/v1"),
        ("bad-weights", "model.safetensors", "git lfs pull"),
    ),
    "tensors of other names": (rename_tensors, ("other-network", "model.safetensors", "95 of 95")),
    "tensors of other sizes": (
        partial(set_keys, "config.json", {"intermediate_size": 48}),
        ("other-network", "model.safetensors", "9 of 95", "encoder"),
    ),
    "more layers than weights": (
        partial(set_keys, "config.json", {"num_hidden_layers": 4}),
        ("other-network", "model.safetensors", "encoder.layers.3"),
    ),
    "fewer layers than weights": (
        partial(set_keys, "config.json", {"num_hidden_layers": 2}),
        ("other-network", "config.json", "2 layers", "model.safetensors", "3"),
    ),
    "tensors one level down": (save_nested, ("bad-weights", "pytorch_model.bin")),
    "a pickle that runs commands": (save_command, ("bad-weights", "pytorch_model.bin", "tensors")),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_folder_that_is_no_model_is_refused(
    fault: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    damage, told = FAULTS[fault]
    damage(folder)
    with refused(*told) as caught:
        SSLEncoder(str(folder), "wavlm")
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)
    assert not (folder / "ran").exists()


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"layers": [1, 4]}, "layers has 4: the model has layers 0 to 3"),
        ({"layers": [-1]}, "layers has -1: the model has layers 0 to 3"),
        ({"layers": ["1"]}, "layers has '1': the model has layers 0 to 3"),
        ({"layers": []}, r"at least one layer and none twice, got \[\]"),
        ({"layers": [2, 2]}, r"at least one layer and none twice, got \[2, 2\]"),
        ({"precision": "fp16"}, "precision is 'fp16', and must be 'fp32' or 'bf16'"),
        ({"architecture": "whisper"}, "architecture is 'whisper', and must be one of wavlm, hub"),
    ],
)
def test_wrong_arguments_are_refused(folder: Path, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SSLEncoder(**({"source": str(folder), "architecture": "wavlm"} | arguments))


def test_a_yaml_file_names_itself(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "system.yaml"
    path.write_text(
        f"encoder: !new:{SSLEncoder.__module__}.SSLEncoder\n"
        f"    source: {folder}\n    architecture: wavlm\n    layers: [2]\n",
        encoding="utf-8",
    )
    hparams, _ = load_hparams(path)
    assert hparams["encoder"].layers == {"layer2": 32}
    path.write_text(path.read_text(encoding="utf-8").replace("[2]", "[9]"), encoding="utf-8")
    with refused("bad-setting", "system.yaml", "encoder", "layers", "9"):
        load_hparams(path)


def test_a_depth_that_is_not_the_weights_is_refused_whatever_layers_are_read(folder: Path) -> None:
    """The final norm would be left out after the last layer that there is."""
    set_keys("config.json", {"num_hidden_layers": 5}, folder)
    with refused("other-network", "config.json", "5 layers", "3"):
        SSLEncoder(str(folder), "wavlm", layers=[3])


def test_without_transformers_the_message_says_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r'pip install "speechbrain_ext\[ssl\]"'):
        SSLEncoder(str(folder), "wavlm")


def test_the_mel_path_does_not_import_transformers() -> None:
    code = (
        "import sys, speechbrain_ext.lobes.mixer, speechbrain_ext.lobes.ssl_encoder; "
        "sys.exit('transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hugging Face cache, and a hub that must not be asked."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(ssl_source.HfApi, "model_info", refuse)
    monkeypatch.setattr(ssl_source, "snapshot_download", refuse)
    return tmp_path / "cache"


def put_into_cache(folder: Path, cache: Path) -> Path:
    """As the hub's own client lays a model out."""
    model = cache / "models--someone--wavlm"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text("abc123", encoding="utf-8")
    return Path(shutil.copytree(folder, model / "snapshots" / "abc123"))


def test_a_cached_name_needs_no_network(folder: Path, cache: Path) -> None:
    snapshot = put_into_cache(folder, cache)
    assert ssl_source.find_model("someone/wavlm") == snapshot
    encoder = SSLEncoder("someone/wavlm", "wavlm", offline=True)
    assert encoder.layers == {"layer3": 32}
    remove("model.safetensors", snapshot)
    with refused("not-cached", "someone/wavlm"):
        SSLEncoder("someone/wavlm", "wavlm", offline=True)


def test_a_cached_model_without_all_its_parts_is_not_whole(folder: Path, cache: Path) -> None:
    snapshot = put_into_cache(folder, cache)
    tensors = load_file(snapshot / "model.safetensors")
    remove("model.safetensors", snapshot)
    names, parts = sorted(tensors), ["model-00001-of-00002", "model-00002-of-00002"]
    for part, held in zip(parts, (names[:40], names[40:]), strict=True):
        save_file(
            {name: tensors[name] for name in held},
            snapshot / f"{part}.safetensors",
            metadata={"format": "pt"},
        )
    weight_map = {name: f"{parts[index >= 40]}.safetensors" for index, name in enumerate(names)}
    index = {"metadata": {}, "weight_map": weight_map}
    write("model.safetensors.index.json", json.dumps(index).encode(), snapshot)
    assert SSLEncoder("someone/wavlm", "wavlm", offline=True).layers == {"layer3": 32}
    remove(f"{parts[1]}.safetensors", snapshot)
    with refused("not-cached", "someone/wavlm"):
        SSLEncoder("someone/wavlm", "wavlm", offline=True)


@pytest.mark.parametrize("by_argument", [True, False])
def test_offline_downloads_nothing(
    cache: Path, by_argument: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", not by_argument)
    with refused("not-cached", "'someone/wavlm'", cache, "offline"):
        SSLEncoder("someone/wavlm", "wavlm", offline=by_argument)
    assert not cache.exists()


@pytest.mark.parametrize("source", ["", "/no/such/folder", "./model", "a/b/c"])
def test_what_is_no_folder_and_no_name_is_refused(source: str, cache: Path) -> None:
    with refused("missing-folder", f"'{source}'"):
        SSLEncoder(source, "wavlm")


def test_a_download_is_announced_and_takes_what_is_needed(
    folder: Path,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sizes = {"config.json": 2000, "preprocessor_config.json": 200, "README.md": 10**9}
    sizes |= {"pytorch_model.bin": 10**9, "model.safetensors": 1_260_000_000}
    siblings = [
        huggingface_hub.hf_api.RepoSibling(rfilename=name, size=size)
        for name, size in sizes.items()
    ]
    wanted: list[str] = []

    def describe(self: Any, name: str, files_metadata: bool) -> Any:
        assert files_metadata
        return type("Info", (), {"siblings": siblings})

    def download(name: str, allow_patterns: list[str], cache_dir: str) -> str:
        assert [record.levelname for record in caplog.records] == ["WARNING"]  # beforehand
        wanted.extend(allow_patterns)
        return str(put_into_cache(folder, Path(cache_dir)))

    monkeypatch.setattr(ssl_source.HfApi, "model_info", describe)
    monkeypatch.setattr(ssl_source, "snapshot_download", download)
    with caplog.at_level(logging.WARNING):
        SSLEncoder("someone/wavlm", "wavlm")
        assert wanted == ["config.json", "preprocessor_config.json", "model.safetensors"]
        SSLEncoder("someone/wavlm", "wavlm", offline=True)  # from the cache
    (record,) = caplog.records
    assert record.getMessage().endswith(
        f"Downloading someone/wavlm (1.26 GB) from the Hugging Face hub to {cache}"
    )


def test_a_hub_that_does_not_answer_is_a_sentence(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise ConnectionError("no route to host\nand a long story")

    monkeypatch.setattr(ssl_source.HfApi, "model_info", fail)
    with refused("hub-refused", "someone/wavlm", "ConnectionError: no route to host") as caught:
        SSLEncoder("someone/wavlm", "wavlm")
    assert "\n" not in str(caught.value)
