"""What a run is computed on."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path

import torch


def cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def gpus() -> list[str]:
    """What to set ``CUDA_VISIBLE_DEVICES`` to, for each GPU that this process sees."""
    count = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [name.strip() for name in visible.split(",")] if visible else map(str, range(count))
    return list(names)[:count]


def environment(slot: int, jobs: int) -> dict[str, str]:
    """The environment of the job in a slot: its own GPU, or its share of the cores."""
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    env.setdefault("OMP_NUM_THREADS", str(max(1, cores() // jobs)))
    devices = gpus()
    if devices:
        env["CUDA_VISIBLE_DEVICES"] = devices[slot % len(devices)]
    return env


def describe(env: Mapping[str, str], device: str | None = None) -> dict[str, str]:
    """Name the machine as a job with this environment, put on this device, finds it."""
    on_cpu = not gpus() or (device or "").startswith("cpu")
    return {
        "device": _cpu_name() if on_cpu else _gpu_name(env["CUDA_VISIBLE_DEVICES"]),
        "threads": env["OMP_NUM_THREADS"],
        "cores": str(cores()),
        "torch": torch.__version__,
    }


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _gpu_name(device: str) -> str:
    # Asked of the driver's tool: torch would open a context on the GPU only to learn its name.
    command = ["nvidia-smi", f"--id={device}", "--query-gpu=name", "--format=csv,noheader"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return "GPU"
    return found.stdout.strip() if found.returncode == 0 else "GPU"
