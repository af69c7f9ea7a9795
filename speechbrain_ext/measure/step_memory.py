"""Estimate the memory of a training step on a GPU, and time it where this runs.

    python -m speechbrain_ext.measure.step_memory STUDENT.yaml [--key value ...]

Crops go through student and teacher here: what autograd keeps of them is counted, and grows with
the batch. The student's weights count four times (gradients and AdamW's two averages), the
teacher's once, with its largest outputs on top. What a GPU's kernels take besides is unknown.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from speechbrain_ext.errors import UserError, friendly_exit
from speechbrain_ext.measure.speed import time_side_by_side
from speechbrain_ext.systems.command_line import read_command_line
from speechbrain_ext.systems.yaml import load_hparams

GB = 1e9


def bytes_of(module: nn.Module) -> int:
    """Bytes of a module's parameters and buffers."""
    tensors = [*module.parameters(), *module.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def kept_bytes(module: nn.Module, wavs: Tensor, precision: torch.dtype | None) -> int:
    """Bytes that autograd keeps of a forward pass for the backward pass, without the weights."""
    weights = {tensor.untyped_storage().data_ptr() for tensor in module.parameters()}
    kept: dict[int, tuple[Tensor, int]] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = (tensor, storage.nbytes())
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", precision, enabled=precision is not None):
        module(wavs, intermediates=True)
    return sum(size for _, size in kept.values())


def largest_output(module: nn.Module, wavs: Tensor) -> int:
    """Bytes of the largest output of any layer."""
    largest = 0

    def look(layer: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal largest
        if isinstance(output, Tensor):
            largest = max(largest, output.numel() * output.element_size())

    hooks = [layer.register_forward_hook(look) for layer in module.modules()]
    with torch.no_grad():
        module(wavs)
    for hook in hooks:
        hook.remove()
    return largest


def estimate(hparams: dict[str, Any]) -> dict[str, float]:
    """Gigabytes of a step by part, and seconds of a crop on this machine's CPU."""
    batch, samples = hparams["batch_size"], hparams["crop_reader"].samples
    precision = {"fp32": None, "fp16": torch.bfloat16, "bf16": torch.bfloat16}[hparams["precision"]]
    student = nn.ModuleDict(hparams["modules"]).train()
    teacher, network = hparams["teacher"], student["embedding_model"]
    wavs = 0.1 * torch.randn(4, samples)
    # What two crops more add, so that what does not grow with the batch is left out.
    crop = (kept_bytes(network, wavs, precision) - kept_bytes(network, wavs[:2], precision)) / 2
    trained = sum(p.numel() * p.element_size() for p in student.parameters() if p.requires_grad)
    figures = {
        "student_weights_and_optimiser": (bytes_of(student) + 3 * trained) / GB,
        "student_activations": batch * crop / GB,
        "teacher_weights": 0.0,
        "teacher_activations": 0.0,
    }
    work: dict[str, Callable[[], object]] = {"student": partial(_step, network, wavs)}
    if teacher is not None:
        figures["teacher_weights"] = bytes_of(teacher) / GB
        # An operation's input and output, and a copy of either.
        figures["teacher_activations"] = 3 * batch * largest_output(teacher, wavs[:1]) / GB
        work["teacher"] = partial(teacher, wavs)
    figures["total"] = sum(figures.values())
    for name, seconds in time_side_by_side(work, 3, wavs.device).items():
        figures[f"seconds_a_crop_{name}"] = statistics.median(seconds) / len(wavs)
    return figures


def _step(network: nn.Module, wavs: Tensor) -> None:
    embedding, _ = network(wavs, intermediates=True)
    embedding.square().sum().backward()


def _main() -> None:
    """Print the estimate as JSON."""
    line = read_command_line(sys.argv[1:])
    hparams, _ = load_hparams(line.path, line.overrides, line.given)
    if "teacher" not in hparams:
        raise UserError(f"{line.path} has no teacher: give a student's YAML", code="no-teacher")
    figures = {name: round(value, 3) for name, value in estimate(hparams).items()}
    about = {"system": hparams["system"], "batch_size": hparams["batch_size"]}
    about |= {"precision": hparams["precision"], "threads": torch.get_num_threads()}
    print(json.dumps(about | figures, indent=1))


if __name__ == "__main__":
    with friendly_exit():
        _main()
