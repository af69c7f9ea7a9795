"""Run what is missing: several side by side, each after what it needs, none stopped by another."""

from __future__ import annotations

import contextlib
import ctypes
import datetime
import os
import platform
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import torch

from speechbrain_ext.compare.commands import (
    BLOCKED,
    FAILED,
    FINISHED,
    RUNNING,
    Record,
    Workplace,
    finish_step,
    steps,
)
from speechbrain_ext.compare.plan import Run
from speechbrain_ext.errors import UserError

POLL_SECONDS = 0.2
_ERROR = re.compile(r"error: |[\w.]*(Error|Exception|Interrupt)\b")
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


@dataclass
class Job:
    """A run whose commands are being executed one after another."""

    run: Run
    record: Record
    todo: list[tuple[str, list[str]]]
    slot: int
    begun: float = field(default_factory=time.monotonic)
    process: subprocess.Popen[Any] | None = None
    output_from: int = 0


class Runner:
    """Makes all runs, at most ``jobs`` at a time.

    Arguments
    ---------
    workplace : Workplace
        Where.
    runs : sequence of Run
        In the order they are wanted, each after those it needs.
    jobs : int
        How many at a time.
    """

    def __init__(self, workplace: Workplace, runs: Sequence[Run], jobs: int) -> None:
        self.workplace, self.jobs = workplace, jobs
        self.pending = list(runs)
        self.total = len(runs)
        self.active: list[Job] = []
        self.status: dict[tuple[str, int], str] = {}

    def run(self) -> int:
        """Make them all; return how many failed or could not be made because others failed."""
        try:
            while self.pending or self.active:
                self._start_what_can()
                for job in list(self.active):
                    self._look_at(job)
                if self.active:
                    time.sleep(POLL_SECONDS)
        finally:
            _stop(job.process for job in self.active if job.process)
        return sum(status != FINISHED for status in self.status.values())

    def _start_what_can(self) -> None:
        for run in list(self.pending):
            if len(self.active) == self.jobs:
                return
            states = {need: self.status.get(need) for need in run.needs}
            broken = [need for need, state in states.items() if state in (FAILED, BLOCKED)]
            if broken:
                name, seed = broken[0]
                self.pending.remove(run)
                self._give_up(run, BLOCKED, f"{name} seed_{seed} failed")
            elif all(state == FINISHED for state in states.values()):
                self.pending.remove(run)
                self._begin(run)

    def _begin(self, run: Run) -> None:
        record = Record.read(self.workplace.record_path(run))
        try:
            todo = steps(self.workplace, run, record)
        except UserError as error:
            self._give_up(run, FAILED, str(error))
            return
        if not todo:
            self._done(run, record, "has been run before")
            return
        slot = min(set(range(self.jobs)) - {job.slot for job in self.active})
        record.status, record.error = RUNNING, ""
        if todo[0][0] == "training":
            record.begun, record.ended = _now(), ""
            device = self.workplace.plan.common.get("device")
            record.machine = describe_machine(job_environment(slot, self.jobs), device)
        record.write(self.workplace.record_path(run))
        job = Job(run, record, todo, slot)
        self.active.append(job)
        self._say(run, f"begins ({', '.join(name for name, _ in todo)})")
        self._launch(job)

    def _launch(self, job: Job) -> None:
        log = self.workplace.log(job.run)
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "ab") as file:
            file.write(f"\n{_now()} $ {shlex.join(job.todo[0][1])}\n".encode())
            file.flush()
            job.output_from = file.tell()
            env = job_environment(job.slot, self.jobs)
            job.process = _start(job.todo[0][1], file, env)

    def _look_at(self, job: Job) -> None:
        assert job.process is not None
        status = job.process.poll()
        if status is None:
            return
        _stop([job.process], patience=0)  # workers it left
        name, _ = job.todo.pop(0)
        try:
            if status != 0:
                raise UserError(
                    _last_error(self.workplace.log(job.run), job.output_from, status),
                    code="failed-process",
                )
            finish_step(self.workplace, job.run, job.record, name)
        except UserError as error:
            self.active.remove(job)
            self._give_up(job.run, FAILED, f"{name}: {error}")
            return
        job.record.write(self.workplace.record_path(job.run))
        if job.todo:
            self._launch(job)
            return
        self.active.remove(job)
        self._done(job.run, job.record, f"done in {time.monotonic() - job.begun:.0f} s")

    def _done(self, run: Run, record: Record, what: str) -> None:
        record.status, record.error = FINISHED, ""
        record.ended = record.ended or _now()
        record.write(self.workplace.record_path(run))
        self.status[run.system.name, run.seed] = FINISHED
        self._say(run, what)

    def _give_up(self, run: Run, status: str, error: str) -> None:
        record = Record.read(self.workplace.record_path(run))
        record.status, record.error, record.ended = status, error, _now()
        record.write(self.workplace.record_path(run))
        self.status[run.system.name, run.seed] = status
        log = self.workplace.log(run)
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "a", encoding="utf-8") as file:
            file.write(f"{_now()} {status}: {error}\n")
        self._say(run, f"{status}: {error}" + (f"; see {log}" if status == FAILED else ""))

    def _say(self, run: Run, what: str) -> None:
        width = len(str(self.total))
        over = f"{len(self.status):{width}}/{self.total}"
        print(f"{_now()} [{over}] {run}: {what}", flush=True)


def _last_error(log: Path, start: int, status: int) -> str:
    """The line that says why a command failed.

    Arguments
    ---------
    log : Path
        What it wrote.
    start : int
        Byte of the log where its output begins.
    status : int
        Its exit status; negative for a signal.
    """
    with open(log, "rb") as file:
        file.seek(start)
        text = file.read().decode("utf-8", errors="replace")
    if status < 0:
        return f"killed by signal {-status}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if _ERROR.match(line)]
    return (telling or lines or [f"ended with exit status {status}"])[-1].removeprefix("error: ")


def _now() -> str:
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


# Processes that never outlive the one that started them.


def _start(command: list[str], output: IO[bytes], env: Mapping[str, str]) -> subprocess.Popen[Any]:
    """Start a command in a process group of its own, its output going to a file.

    On Linux the kernel kills it when this process dies, however that happens. Call it from the main
    thread: the kernel watches the thread, not the process.
    """
    parent = os.getpid()

    def die_with_parent() -> None:
        if _libc is not None:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)

    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=dict(env),
        start_new_session=True,
        preexec_fn=die_with_parent,
    )


def _stop(processes: Iterable[subprocess.Popen[Any]], patience: float = 5.0) -> None:
    """End processes and the workers in their groups: asked first, killed after ``patience`` s."""
    processes = list(processes)
    for process in processes:
        _signal(process, signal.SIGTERM)
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
        _signal(process, signal.SIGKILL)
        process.wait()


def _signal(process: subprocess.Popen[Any], number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


# What a run is computed on.


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


def job_environment(slot: int, jobs: int) -> dict[str, str]:
    """The environment of the job in a slot: its own GPU, or its share of the cores."""
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    env.setdefault("OMP_NUM_THREADS", str(max(1, cores() // jobs)))
    devices = gpus()
    if devices:
        env["CUDA_VISIBLE_DEVICES"] = devices[slot % len(devices)]
    return env


def describe_machine(env: Mapping[str, str], device: str | None = None) -> dict[str, str]:
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
