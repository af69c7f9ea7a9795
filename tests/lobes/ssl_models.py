"""Small WavLM, HuBERT and wav2vec 2.0 models with random weights, saved as users have them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

ARCHITECTURES = ("wavlm", "hubert", "wav2vec2")


def make_model_folder(
    folder: Path,
    architecture: str = "wavlm",
    *,
    norm: str = "layer",
    stable: bool | None = None,
    conv_bias: bool = False,
    conv_dim: int = 16,
    hidden_size: int = 32,
    layers: int = 3,
    normalize: bool = True,
    seed: int = 0,
    **config: Any,
) -> Path:
    """Save ``config.json``, ``model.safetensors`` and ``preprocessor_config.json``.

    Arguments
    ---------
    folder : Path
        Where; made when missing.
    architecture : str
        "wavlm", "hubert" or "wav2vec2".
    norm : str
        ``feat_extract_norm``: "layer", as in the large models, or "group", as in the base ones.
    stable : bool, optional
        ``do_stable_layer_norm``; by default True with "layer" and False with "group".
    conv_bias, normalize : bool
        ``conv_bias`` and the preprocessor's ``do_normalize``.
    conv_dim, hidden_size, layers : int
        Channels of the convolutions, whose kernels and strides are the real ones, and of the
        Transformer, and its depth.
    seed : int
        Of the weights.
    **config
        More of the configuration.

    Returns
    -------
    Path
        The folder.
    """
    import transformers

    prefix = {"wavlm": "WavLM", "hubert": "Hubert", "wav2vec2": "Wav2Vec2"}[architecture]
    values: dict[str, Any] = {
        "feat_extract_norm": norm,
        "do_stable_layer_norm": norm == "layer" if stable is None else stable,
        "conv_bias": conv_bias,
        "conv_dim": [conv_dim] * 7,
        "hidden_size": hidden_size,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "intermediate_size": 2 * hidden_size,
        "num_conv_pos_embeddings": 16,
        # Of 8 channels each, some CPUs compute a convolution in bfloat16 wrongly (PyTorch 2.11).
        "num_conv_pos_embedding_groups": 2,
        "layerdrop": 0.5,
    }
    settings = getattr(transformers, f"{prefix}Config")(**(values | config))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(transformers, f"{prefix}Model")(settings)
        with torch.no_grad():
            # Norms and biases that a mistake would not find at one and zero.
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    model.save_pretrained(folder)
    preprocessor = {
        "do_normalize": normalize,
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "feature_size": 1,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": norm == "layer",
        "sampling_rate": 16000,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor), encoding="utf-8")
    return folder


def change_json(path: Path, **values: Any) -> None:
    """Change keys of a JSON file; None takes a key away."""
    content = json.loads(path.read_text(encoding="utf-8")) | values
    content = {key: value for key, value in content.items() if value is not None}
    path.write_text(json.dumps(content), encoding="utf-8")
