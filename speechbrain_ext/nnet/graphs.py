"""Whether what runs is also being written down, for inputs of any size."""

from __future__ import annotations

import torch


def makes_graph() -> bool:
    """Whether a graph is made of this call: traced for ONNX, or compiled.

    Python may then not look at sizes, nor choose what is fastest for them.

    Example
    -------
    >>> makes_graph()
    False
    """
    return torch.jit.is_tracing() or torch.compiler.is_compiling()


def leaves_pytorch() -> bool:
    """Whether that graph is for another engine, whose fast operations are not PyTorch's.

    Example
    -------
    >>> leaves_pytorch()
    False
    """
    return torch.jit.is_tracing() or torch.compiler.is_exporting()
