"""Speed, size and operations of speaker encoders, side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from speechbrain_ext.formats import SAMPLE_RATE
from speechbrain_ext.lobes.encoders import SpeakerEncoder

#: PyTorch as it is and compiled; ONNX Runtime in FP32 and in INT8.
ENGINES = ("eager", "compile", "onnx", "int8")


def count_macs(module: nn.Module, *inputs: Tensor, attention_products: bool = False) -> int:
    """Multiply-accumulates of one forward pass: matrix products, convolutions and recurrences.

    Arguments
    ---------
    module : Module
        What to count.
    *inputs : Tensor
        Its inputs.
    attention_products : bool
        Whether queries times keys and weights times values, in PyTorch's fused attention, count as
        well. They have no weights, so publications leave them out of a layer's size; they are what
        grows with the square of the length.

    Returns
    -------
    int
        Operations. Normalisations, activations and sums over time are left out.

    Example
    -------
    >>> count_macs(nn.Linear(10, 20), torch.randn(2, 3, 10))
    1200
    >>> count_macs(nn.LSTM(10, 5, batch_first=True), torch.randn(2, 3, 10))  # 6 steps, 4 gates
    1800
    >>> class Attention(nn.Module):
    ...     def forward(self, x):
    ...         return nn.functional.scaled_dot_product_attention(x, x, x)
    >>> x = torch.randn(1, 2, 30, 8)  # 2 heads, 30 frames
    >>> count_macs(Attention(), x), count_macs(Attention(), x, attention_products=True)
    (0, 28800)
    """
    recurrent = 0

    def count_lstm(layer: nn.LSTM, args: tuple[Any, ...], output: Any) -> None:
        nonlocal recurrent
        weights = sum(p.numel() for name, p in layer.named_parameters() if "weight" in name)
        recurrent += weights * args[0].shape[:-1].numel()

    layers = [layer for layer in module.modules() if isinstance(layer, nn.LSTM)]
    hooks = [layer.register_forward_hook(count_lstm) for layer in layers]
    # PyTorch knows the count of fused attention on a GPU, not on a CPU.
    on_cpu = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    counter = FlopCounterMode(display=False, custom_mapping={on_cpu: _attention_flops})
    try:
        with torch.no_grad(), counter:
            module(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    flops = sum(
        count
        for operator, count in counter.get_flop_counts().get("Global", {}).items()
        if attention_products or "attention" not in str(operator)
    )
    return flops // 2 + recurrent


def time_side_by_side(
    functions: Mapping[str, Callable[[], object]],
    rounds: int,
    device: torch.device,
    warm_up: int = 2,
    settle: int = 0,
) -> dict[str, list[float]]:
    """Time functions in turns, so that what slows the machine down slows them all.

    Arguments
    ---------
    functions : mapping
        What to time, by name.
    rounds : int
        Times each is measured.
    device : torch.device
        Waited for when it is a GPU.
    warm_up : int
        Times each is called before, and not measured.
    settle : int
        Times it is called right before each time that counts.

    Returns
    -------
    dict
        Seconds of every round, by name.
    """
    wait = partial(torch.cuda.synchronize, device) if device.type == "cuda" else _nothing
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(warm_up + rounds):
        for name, function in functions.items():
            for _ in range(settle):
                function()
            wait()
            start = time.perf_counter()
            function()
            wait()
            if turn >= warm_up:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def benchmark_encoders(
    encoders: Mapping[str, SpeakerEncoder],
    batch: int = 8,
    seconds_of_speech: float = 2.0,
    rounds: int = 20,
    device: str = "cpu",
) -> dict[str, Any]:
    """Measure encoders in one run, in FP32 eager mode.

    Arguments
    ---------
    encoders : mapping
        Encoders by name; the first is what the others are compared with.
    batch : int
        Utterances in a batch.
    seconds_of_speech : float
        Length of an utterance.
    rounds : int
        Times each is measured.
    device : str
        Where.

    Returns
    -------
    dict
        ``systems``, in which ``parameters`` and ``macs_per_utterance`` are None of a file that
        PyTorch cannot look into, ``utterances_per_second`` (median), ``spread`` (slowest, fastest)
        and ``relative`` (to the first) are those of the network alone on features that are ready,
        and ``from_waveform`` has the same three with the front end included; and what was measured.
    """
    where = torch.device(device)
    wavs = timed_noise(batch, round(seconds_of_speech * SAMPLE_RATE), where)
    networks: dict[str, Callable[[], object]] = {}
    wholes: dict[str, Callable[[], object]] = {}
    systems: list[dict[str, Any]] = []
    with torch.inference_mode():
        for name, encoder in encoders.items():
            encoder = encoder.to(where).eval().requires_grad_(False)
            network = encoder.embedding_model
            feats = encoder.mean_var_norm(encoder.compute_features(wavs))
            networks[name] = partial(network, feats)
            wholes[name] = partial(encoder, wavs)
            macs = _macs(encoder, feats[:1])
            size = {"parameters": encoder.num_parameters, "macs_per_utterance": macs}
            systems.append({"name": name, **size})
        network_seconds = time_side_by_side(networks, rounds, where)
        whole_seconds = time_side_by_side(wholes, rounds, where)
    for system in systems:
        system.update(_rates(system["name"], network_seconds, batch))
        system["from_waveform"] = _rates(system["name"], whole_seconds, batch)
    return {
        **_place(where),
        "batch": batch,
        "seconds_of_speech": seconds_of_speech,
        "rounds": rounds,
        "systems": systems,
    }


def benchmark_lengths(
    encoders: Mapping[str, SpeakerEncoder],
    lengths: Sequence[float] = (1, 3, 10, 30, 60),
    rounds: int = 5,
    device: str = "cpu",
) -> dict[str, Any]:
    """What one utterance costs by its length, in one run, in FP32 eager mode.

    Arguments
    ---------
    encoders : mapping
        Encoders by name.
    lengths : sequence of float
        Seconds of speech of the utterance.
    rounds : int
        Times each is measured at every length.
    device : str
        Where.

    Returns
    -------
    dict
        ``lengths``, what was measured, and ``systems``, which have a value for every length:
        ``macs`` of the network with its attention products (None of a file that PyTorch cannot
        look into), ``seconds`` (median) and ``spread``
        (fastest, slowest) from waveform to embedding, and on a GPU ``peak_bytes``, the most memory
        that was needed besides the weights and the waveform.

    Raises
    ------
    ValueError
        When there is no length, or one is not above 0.

    Example
    -------
    >>> from speechbrain_ext.lobes.features import LogMel
    >>> from speechbrain_ext.lobes.mixer import MLPMixer
    >>> from speechbrain_ext.nnet.normalization import UtteranceNorm
    >>> encoder = SpeakerEncoder(LogMel(), UtteranceNorm(), MLPMixer(channels=16, num_blocks=1))
    >>> figures = benchmark_lengths({"small": encoder}, [0.5, 1.0], rounds=2)
    >>> figures["lengths"], sorted(figures["systems"][0])
    ([0.5, 1.0], ['macs', 'name', 'seconds', 'spread'])
    """
    if not lengths or min(lengths) <= 0:
        raise ValueError(f"lengths are seconds above 0, and {list(lengths)} are not")
    where = torch.device(device)
    for encoder in encoders.values():
        encoder.to(where).eval().requires_grad_(False)
    systems: dict[str, dict[str, Any]] = {
        name: {"name": name, "macs": [], "seconds": [], "spread": []} for name in encoders
    }
    with torch.inference_mode():
        for length in lengths:
            wavs = timed_noise(1, round(length * SAMPLE_RATE), where)
            for name, encoder in encoders.items():
                feats = encoder.mean_var_norm(encoder.compute_features(wavs))
                systems[name]["macs"].append(_macs(encoder, feats))
            wholes = {name: partial(encoder, wavs) for name, encoder in encoders.items()}
            for name, own in time_side_by_side(wholes, rounds, where, warm_up=1).items():
                systems[name]["seconds"].append(statistics.median(own))
                systems[name]["spread"].append([min(own), max(own)])
            if where.type == "cuda":
                for name, whole in wholes.items():
                    systems[name].setdefault("peak_bytes", []).append(_peak_bytes(whole, where))
    return {
        **_place(where),
        "rounds": rounds,
        "lengths": list(lengths),
        "systems": list(systems.values()),
    }


def _macs(encoder: SpeakerEncoder, feats: Tensor) -> int | None:
    if encoder.num_parameters is None:
        return None
    return count_macs(encoder.embedding_model, feats.clone(), attention_products=True)


def _place(where: torch.device) -> dict[str, Any]:
    name = torch.cuda.get_device_name(where) if where.type == "cuda" else "cpu"
    return {"device": name, "threads": torch.get_num_threads()}


def timed_noise(batch: int, samples: int, where: torch.device | str = "cpu") -> Tensor:
    """Waveforms (batch, samples) to be timed with, always the same."""
    generator = torch.Generator().manual_seed(0)
    return (0.1 * torch.randn(batch, samples, generator=generator)).to(where)


def _peak_bytes(function: Callable[[], object], where: torch.device) -> int:
    torch.cuda.synchronize(where)
    before = torch.cuda.memory_allocated(where)
    torch.cuda.reset_peak_memory_stats(where)
    function()
    torch.cuda.synchronize(where)
    return torch.cuda.max_memory_allocated(where) - before


def _rates(name: str, seconds: dict[str, list[float]], batch: int) -> dict[str, Any]:
    own, first = seconds[name], next(iter(seconds.values()))
    return {
        "utterances_per_second": batch / statistics.median(own),
        "spread": [batch / max(own), batch / min(own)],
        "relative": statistics.median(first) / statistics.median(own),
    }


def _nothing() -> None:
    pass


def _attention_flops(
    query: torch.Size, key: torch.Size, value: torch.Size, *_: Any, **__: Any
) -> int:
    return sdpa_flop_count(query, key, value)
