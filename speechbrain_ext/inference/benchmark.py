"""Speed, size and operations of speaker encoders, side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from speechbrain_ext.lobes.encoders import SpeakerEncoder


def count_macs(module: nn.Module, *inputs: Tensor) -> int:
    """Multiply-accumulates of one forward pass: matrix products, convolutions and recurrences.

    Arguments
    ---------
    module : Module
        What to count.
    *inputs : Tensor
        Its inputs.

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
    """
    recurrent = 0

    def count_lstm(layer: nn.LSTM, args: tuple[Any, ...], output: Any) -> None:
        nonlocal recurrent
        weights = sum(p.numel() for name, p in layer.named_parameters() if "weight" in name)
        recurrent += weights * args[0].shape[:-1].numel()

    layers = [layer for layer in module.modules() if isinstance(layer, nn.LSTM)]
    hooks = [layer.register_forward_hook(count_lstm) for layer in layers]
    counter = FlopCounterMode(display=False)
    try:
        with torch.no_grad(), counter:
            module(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return counter.get_total_flops() // 2 + recurrent


def time_side_by_side(
    functions: Mapping[str, Callable[[], object]], rounds: int, device: torch.device
) -> dict[str, list[float]]:
    """Time functions in turns, so that what slows the machine down slows them all.

    Arguments
    ---------
    functions : mapping
        What to time, by name.
    rounds : int
        Times each is measured, after two times that are not.
    device : torch.device
        Waited for when it is a GPU.

    Returns
    -------
    dict
        Seconds of every round, by name.
    """
    wait = torch.cuda.synchronize if device.type == "cuda" else _nothing
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(rounds + 2):
        for name, function in functions.items():
            wait()
            start = time.perf_counter()
            function()
            wait()
            if turn >= 2:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def benchmark_encoders(
    encoders: Mapping[str, SpeakerEncoder],
    batch: int = 8,
    seconds_of_speech: float = 2.0,
    rounds: int = 20,
    device: str = "cpu",
    sample_rate: int = 16000,
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
    sample_rate : int
        Samples per second.

    Returns
    -------
    dict
        ``systems``, in which ``utterances_per_second`` (median), ``spread`` (slowest, fastest) and
        ``relative`` (to the first) are those of the network alone on features that are ready, and
        ``from_waveform`` has the same three with the front end included; and what was measured.
    """
    where = torch.device(device)
    samples = round(seconds_of_speech * sample_rate)
    wavs = 0.1 * torch.randn(batch, samples, generator=torch.Generator().manual_seed(0))
    wavs = wavs.to(where)
    networks: dict[str, Callable[[], object]] = {}
    wholes: dict[str, Callable[[], object]] = {}
    systems: list[dict[str, Any]] = []
    with torch.inference_mode():
        for name, encoder in encoders.items():
            encoder = encoder.to(where).eval()
            network = encoder.embedding_model
            feats = encoder.mean_var_norm(encoder.compute_features(wavs))
            networks[name] = partial(network, feats)
            wholes[name] = partial(encoder, wavs)
            parameters = sum(parameter.numel() for parameter in network.parameters())
            macs = count_macs(network, feats[:1].clone())
            systems.append({"name": name, "parameters": parameters, "macs_per_utterance": macs})
        network_seconds = time_side_by_side(networks, rounds, where)
        whole_seconds = time_side_by_side(wholes, rounds, where)
    for system in systems:
        system.update(_rates(system["name"], network_seconds, batch))
        system["from_waveform"] = _rates(system["name"], whole_seconds, batch)
    return {
        "device": torch.cuda.get_device_name(where) if where.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "batch": batch,
        "seconds_of_speech": seconds_of_speech,
        "rounds": rounds,
        "systems": systems,
    }


def _rates(name: str, seconds: dict[str, list[float]], batch: int) -> dict[str, Any]:
    own, first = seconds[name], next(iter(seconds.values()))
    return {
        "utterances_per_second": batch / statistics.median(own),
        "spread": [batch / max(own), batch / min(own)],
        "relative": statistics.median(first) / statistics.median(own),
    }


def _nothing() -> None:
    pass
