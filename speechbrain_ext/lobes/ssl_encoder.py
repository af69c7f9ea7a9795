"""Self-supervised Transformers of speech as lobes: WavLM, HuBERT and wav2vec 2.0."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechbrain_ext.interfaces import BackEnd, Lobe
from speechbrain_ext.lobes.conv_front_end import receptive_field
from speechbrain_ext.lobes.exact_length import each_length
from speechbrain_ext.lobes.ssl_loading import WRAPPERS, load_ssl_model, require_transformers
from speechbrain_ext.lobes.ssl_source import find_model, read_description, written_description
from speechbrain_ext.nnet.masking import whole_lengths

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


class SSLEncoder(Lobe):
    """A WavLM, HuBERT or wav2vec 2.0 that reads waveforms, with the contract of the lobes here.

    By SpeechBrain's ``integrations.huggingface``, which needs the ``ssl`` extra. Utterances of one
    length go through the model together, and those of another in a pass of their own: its base
    models normalise over time and would let padding in. In eval mode nothing is random, and a
    forward pass leaves the random state alone.

    Layer 0 is the Transformer's input, layer k what its k-th layer gives. The last layer of a large
    model is what comes after the model's final normalisation, as its ``last_hidden_state``.

    Arguments
    ---------
    source : str
        A folder that transformers has saved, or a name on the Hugging Face hub, which is
        downloaded when it is not in the cache; a line says so.
    architecture : str
        "wavlm", "hubert" or "wav2vec2".
    layers : sequence of int, optional
        Layers that are hidden outputs; the last one by default. Those above the highest are
        neither computed nor kept in memory.
    back_end : callable, optional
        Class of a network that embeds: made with the hidden size H, it maps frames (B, T, H) and
        lengths to (B, 1, D). It is given the sum of ``layers``, weighted by a softmax of weights
        that are learned. Without it an embedding is the mean over time of the highest layer.
    offline : bool
        Whether nothing may be downloaded.
    precision : str
        "fp32", or "bf16" for weights and computation of a frozen model in bfloat16. Waveforms are
        normalised, and hidden outputs given, in float32 all the same.
    description : mapping, optional
        That of another: the network is then made like it, whether its source is there or not, with
        random weights in which a state dict is to be loaded.

    Attributes
    ----------
    description : dict
        The model's ``config.json`` and ``preprocessor_config.json``, by these names.
    embedding_size : int
        D.
    layers : dict
        Names and channels of the hidden outputs, in their order: ``layer24`` and so on.
    receptive_field : int
        Samples that a frame sees: the shortest waveform.

    Raises
    ------
    MissingPackage
        Without transformers.
    UserError
        When the model cannot be found, or is not what it should be.
    ValueError
        For an unknown architecture or precision, or layers that do not exist.

    Example
    -------
    >>> import tempfile
    >>> from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor
    >>> config = HubertConfig(hidden_size=48, intermediate_size=96, num_hidden_layers=3)
    >>> parts = [HubertModel(config), Wav2Vec2FeatureExtractor()]
    >>> with tempfile.TemporaryDirectory() as source:  # or "facebook/hubert-base-ls960"
    ...     _ = [part.save_pretrained(source) for part in parts]
    ...     encoder = SSLEncoder(source, "hubert", layers=[1, 2]).eval()
    >>> embeddings, hidden = encoder(torch.randn(2, 16000), torch.tensor([1.0, 0.6]), True)
    >>> embeddings.shape, hidden[0].shape, encoder.layers
    (torch.Size([2, 1, 48]), torch.Size([2, 49, 48]), {'layer1': 48, 'layer2': 48})
    """

    #: What of this package's extras it needs.
    extra = "ssl"

    def __init__(
        self,
        source: str,
        architecture: str,
        layers: Sequence[int] | None = None,
        back_end: Callable[[int], BackEnd] | None = None,
        offline: bool = False,
        precision: str = "fp32",
        description: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if architecture not in WRAPPERS:
            raise ValueError(
                f"architecture is {architecture!r}, and must be one of {', '.join(WRAPPERS)}"
            )
        if precision not in PRECISIONS:
            raise ValueError(f"precision is {precision!r}, and must be 'fp32' or 'bf16'")
        require_transformers()
        if description is None:
            folder = find_model(source, offline)
            loaded = load_ssl_model(folder, architecture, layers)
            self.description = read_description(folder)
        else:
            with written_description(description) as folder:
                loaded = load_ssl_model(folder, architecture, layers, weights=False)
                self.description = read_description(folder)
        model, self.normalize, self.chosen = loaded
        self.model: Any = model.to(PRECISIONS[precision])
        self.precision = precision
        config: Any = model.config
        self.kernels, self.strides = tuple(config.conv_kernel), tuple(config.conv_stride)
        self.receptive_field = receptive_field(self.kernels, self.strides)
        self.layers = {f"layer{layer}": int(config.hidden_size) for layer in self.chosen}
        self.embedding_size = int(config.hidden_size)
        self.back_end: BackEnd | None = None
        if back_end is not None:
            self.back_end = back_end(self.embedding_size)
            self.embedding_size = self.back_end.embedding_size
        self.layer_weights: nn.Parameter | None = None
        if back_end is not None and len(self.chosen) > 1:
            self.layer_weights = nn.Parameter(torch.zeros(len(self.chosen)))

    @property
    def embeds_speakers(self) -> bool:  # type: ignore[override]
        """Whether it has a back end, which is trained on speakers."""
        return self.back_end is not None

    @property
    def build_arguments(self) -> dict[str, Any]:
        """Arguments that, beside its own, make this network where its source is not."""
        return {"description": self.description}

    @property
    def pretrained(self) -> nn.Module:
        """The part whose first weights are those of the source."""
        return self.model

    @overload
    def num_frames(self, samples: int) -> int: ...
    @overload
    def num_frames(self, samples: Tensor) -> Tensor: ...
    def num_frames(self, samples: int | Tensor) -> int | Tensor:
        """Frames of waveforms of that many samples."""
        for kernel, stride in zip(self.kernels, self.strides, strict=True):
            samples = (samples - kernel) // stride + 1
        return samples

    def forward(
        self, wavs: Tensor, lengths: Tensor | None = None, intermediates: bool = False
    ) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Keep the contract of :class:`~speechbrain_ext.interfaces.Lobe` of waveforms.

        Hidden outputs are zero after an utterance's end; their T is the ``num_frames`` of the
        padded batch.

        Raises
        ------
        ValueError
            For a waveform shorter than ``receptive_field``, or gradients wanted in bfloat16.
        """
        if self.precision == "bf16" and self.training and torch.is_grad_enabled():
            raise ValueError("precision is 'bf16', which is for a frozen model: train it in 'fp32'")
        if lengths is None:
            hidden = self._encode(wavs)
            frames = torch.full((len(wavs),), hidden[0].shape[1], device=wavs.device)
        else:
            samples = whole_lengths(lengths, wavs.shape[1])
            hidden, frames = self._encode_padded(wavs, samples), self.num_frames(samples)
        if self.back_end is None:
            mean = hidden[-1].sum(dim=1, dtype=torch.float32) / frames[:, None]
            embedding = mean.unsqueeze(1)
        else:
            relative = None if lengths is None else frames / hidden[0].shape[1]
            embedding = self.back_end(self._weighted(hidden), relative)
        return (embedding, hidden) if intermediates else embedding

    def _weighted(self, hidden: list[Tensor]) -> Tensor:
        """The sum of the layers (B, T, H), by their weights."""
        if self.layer_weights is None:
            return hidden[0]
        shares = self.layer_weights.softmax(dim=0)
        return torch.stack([share * x for share, x in zip(shares, hidden, strict=True)]).sum(dim=0)

    def _encode(self, wavs: Tensor) -> list[Tensor]:
        """The chosen layers (B, T, H) of whole utterances (B, samples)."""
        if wavs.shape[1] < self.receptive_field:
            raise ValueError(
                f"a waveform has {wavs.shape[1]} samples, and the model needs at least "
                f"{self.receptive_field}"
            )
        if self.normalize:
            wavs = F.layer_norm(wavs.float(), wavs.shape[1:])
        low = self.precision == "bf16"
        # Its layers draw a number each for layer drop, even where there is none.
        random = nullcontext() if self.training else torch.random.fork_rng(devices=[])
        with random, torch.autocast(wavs.device.type, enabled=False) if low else nullcontext():
            output = self.model(
                wavs.to(PRECISIONS[self.precision]) if low else wavs,
                output_hidden_states=len(self.chosen) > 1,
            )
        below = [output.hidden_states[layer] for layer in self.chosen[:-1]]
        hidden = [*below, output.last_hidden_state]
        return [x.float() for x in hidden] if low else hidden

    def _encode_padded(self, wavs: Tensor, samples: Tensor) -> list[Tensor]:
        """The chosen layers (B, T, H) of utterances of those samples, zero after their end."""
        total = self.num_frames(wavs.shape[1])

        def encode(rows: Tensor, count: int) -> list[Tensor]:
            hidden = self._encode(wavs[rows, :count])
            return [F.pad(x, (0, 0, 0, total - x.shape[1])) for x in hidden]

        return list(each_length(samples, encode))

    @property
    def front_end_settings(self) -> dict[str, Any]:
        """What a ``ConvFrontEnd`` that computes what this one's convolutions do is made of.

        Raises
        ------
        ValueError
            When ``ConvFrontEnd`` has no such convolutions.
        """
        config = self.model.config
        widths = set(config.conv_dim)
        ends_normalised = hasattr(self.model.feature_projection, "layer_norm")
        if len(widths) > 1 or config.feat_extract_activation != "gelu" or not ends_normalised:
            raise ValueError(
                f"ConvFrontEnd has no such convolutions as the model: channels "
                f"{list(config.conv_dim)}, activation {config.feat_extract_activation!r}, "
                f"normalised at the end: {ends_normalised}"
            )
        return {
            "channels": widths.pop(),
            "kernels": self.kernels,
            "strides": self.strides,
            "bias": bool(config.conv_bias),
            "layer_norm": config.feat_extract_norm == "layer",
            "normalize": bool(self.normalize),
        }

    def front_end_state(self) -> dict[str, Tensor]:
        """The state dict of a ``ConvFrontEnd`` like that: a copy in float32.

        In precision "bf16" these are the rounded weights that it computes with.

        Raises
        ------
        ValueError
            As :attr:`front_end_settings`.
        """
        layers, settings = self.model.feature_extractor.conv_layers, self.front_end_settings
        normed = layers if settings["layer_norm"] else layers[:1]
        modules = {f"convs.{index}": layer.conv for index, layer in enumerate(layers)}
        modules |= {f"norms.{index}": layer.layer_norm for index, layer in enumerate(normed)}
        modules["norm"] = self.model.feature_projection.layer_norm
        return {
            f"{prefix}.{name}": tensor.detach().float().clone()
            for prefix, module in modules.items()
            for name, tensor in module.state_dict().items()
        }
