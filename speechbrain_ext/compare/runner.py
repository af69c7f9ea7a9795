"""Run what is missing: several side by side, each after what it needs, none stopped by another."""

from __future__ import annotations

import datetime
import shlex
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from speechbrain_ext.compare import children
from speechbrain_ext.compare.commands import Place, finish_step, steps
from speechbrain_ext.compare.machine import describe, environment
from speechbrain_ext.compare.plan import Run
from speechbrain_ext.compare.records import BLOCKED, FAILED, FINISHED, RUNNING, Record, last_error
from speechbrain_ext.errors import UserError

POLL_SECONDS = 0.2


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
    place : Place
        Where.
    runs : sequence of Run
        In the order they are wanted, each after those it needs.
    jobs : int
        How many at a time.
    """

    def __init__(self, place: Place, runs: Sequence[Run], jobs: int) -> None:
        self.place, self.jobs = place, jobs
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
            children.stop(job.process for job in self.active if job.process)
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
        record = Record.read(self.place.record(run))
        try:
            todo = steps(self.place, run, record)
        except (UserError, SystemExit) as error:  # argparse exits
            self._give_up(run, FAILED, str(error))
            return
        if not todo:
            self._done(run, record, "has been run before")
            return
        slot = min(set(range(self.jobs)) - {job.slot for job in self.active})
        record.status, record.error = RUNNING, ""
        if todo[0][0] == "training":
            record.begun, record.ended = _now(), ""
            device = self.place.ablation.common.get("device")
            record.machine = describe(environment(slot, self.jobs), device)
        record.write(self.place.record(run))
        job = Job(run, record, todo, slot)
        self.active.append(job)
        self._say(run, f"begins ({', '.join(name for name, _ in todo)})")
        self._launch(job)

    def _launch(self, job: Job) -> None:
        log = self.place.log(job.run)
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "ab") as file:
            file.write(f"\n{_now()} $ {shlex.join(job.todo[0][1])}\n".encode())
            file.flush()
            job.output_from = file.tell()
            env = environment(job.slot, self.jobs)
            job.process = children.start(job.todo[0][1], file, env)

    def _look_at(self, job: Job) -> None:
        assert job.process is not None
        status = job.process.poll()
        if status is None:
            return
        children.stop([job.process], patience=0)  # workers it left
        name, _ = job.todo.pop(0)
        try:
            if status != 0:
                raise UserError(last_error(self.place.log(job.run), job.output_from, status))
            finish_step(self.place, job.run, job.record, name)
        except UserError as error:
            self.active.remove(job)
            self._give_up(job.run, FAILED, f"{name}: {error}")
            return
        job.record.write(self.place.record(job.run))
        if job.todo:
            self._launch(job)
            return
        self.active.remove(job)
        self._done(job.run, job.record, f"done in {time.monotonic() - job.begun:.0f} s")

    def _done(self, run: Run, record: Record, what: str) -> None:
        record.status, record.error = FINISHED, ""
        record.ended = record.ended or _now()
        record.write(self.place.record(run))
        self.status[run.system.name, run.seed] = FINISHED
        self._say(run, what)

    def _give_up(self, run: Run, status: str, error: str) -> None:
        record = Record.read(self.place.record(run))
        record.status, record.error, record.ended = status, error, _now()
        record.write(self.place.record(run))
        self.status[run.system.name, run.seed] = status
        log = self.place.log(run)
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "a", encoding="utf-8") as file:
            file.write(f"{_now()} {status}: {error}\n")
        self._say(run, f"{status}: {error}" + (f"; see {log}" if status == FAILED else ""))

    def _say(self, run: Run, what: str) -> None:
        width = len(str(self.total))
        over = f"{len(self.status):{width}}/{self.total}"
        print(f"{_now()} [{over}] {run}: {what}", flush=True)


def _now() -> str:
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")
