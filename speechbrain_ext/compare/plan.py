"""What a comparison's YAML file asks for: systems, seeds, and the order they are trained in."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from speechbrain_ext.errors import UserError
from speechbrain_ext.systems.yaml import read_yaml
from speechbrain_ext.verification.score_norm import NORMS

KEYS = {"title", "reference", "baseline", "lengths", "common", "first", "systems"}
KEYS |= {"claims", "remarks", "score_norm"}
SYSTEM_KEYS = {"yaml", "model", "teacher", "overrides", "seeds"}
#: Folders that the command line gives, or else the corpus has by these names.
FOLDERS = {"noise_folder": "noise", "rir_folder": "rir"}


@dataclass(frozen=True)
class Variant:
    """A system of the comparison, one line of its table: a YAML, its teacher and what is changed.

    What differs in plain settings alone needs no file of its own, only another name.

    Arguments
    ---------
    name : str
        Names its folder.
    yaml : str
        Its file below ``hparams/``; empty for a ``model``.
    teacher : str, optional
        The system whose run of the same seed teaches it.
    overrides : dict
        Keys of the YAML that differ; ``{experiment: NAME}`` stands for the folder of the run of
        that system with the same seed, and in the file ``{given: KEY}`` for one of ``FOLDERS``.
    seeds : int, optional
        How many seeds at most; all that are asked for when None.
    model : str, optional
        A trained model that is brought along, as ``local/import_teacher.py`` takes it, in place of
        a training; it is the same for every seed.
    """

    name: str
    yaml: str
    teacher: str | None = None
    overrides: dict[str, Any] = field(default_factory=dict)
    seeds: int | None = None
    model: str | None = None

    @property
    def what(self) -> str:
        """Its YAML, or the model that it is."""
        return self.yaml if self.model is None else f"model {self.model}"

    @property
    def experiments(self) -> dict[str, str]:
        """The systems whose folders this one reads, by the key that takes the folder."""
        found = {"teacher_folder": self.teacher} if self.teacher else {}
        for key, value in self.overrides.items():
            if isinstance(value, Mapping) and set(value) == {"experiment"}:
                found[key] = value["experiment"]
        return found


@dataclass(frozen=True)
class Run:
    """A system trained with one seed, and the runs whose folders it reads.

    Arguments
    ---------
    system : Variant
        The system.
    seed : int
        The seed.
    reads : dict
        The runs that come before, (system, seed), by the key that takes the folder.
    """

    system: Variant
    seed: int
    reads: dict[str, tuple[str, int]] = field(default_factory=dict, compare=False)

    def __str__(self) -> str:
        return f"{self.system.name} seed_{self.seed}"

    @property
    def needs(self) -> list[tuple[str, int]]:
        """The runs that come before: (system, seed)."""
        return list(self.reads.values())


@dataclass(frozen=True)
class Plan:
    """The content of a comparison's YAML file; ``name`` is that of the file."""

    name: str
    title: str
    reference: str  # the system that those with one seed are compared with
    baseline: str  # the system that speeds are relative to
    common: dict[str, Any]
    systems: dict[str, Variant]
    first: list[str] = field(default_factory=list)  # all their seeds come before all else
    claims: list[dict[str, Any]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    lengths: list[float] = field(default_factory=list)  # seconds, at which cost is measured
    score_norm: str | None = None  # asnorm or snorm: error rates of normalised scores as well
    left_out: dict[str, str] = field(default_factory=dict)  # systems that cannot be here, and why

    def seeds_of(self, name: str, seeds: int) -> int:
        """How many seeds a system is trained with: as many as those that need it."""
        if self.systems[name].model is not None:
            return 1
        own = self.systems[name].seeds
        wanted = [seeds if own is None else min(own, seeds)]
        for other in self.systems.values():
            if name in other.experiments.values():
                wanted.append(self.seeds_of(other.name, seeds))
        return max(wanted)

    def runs(self, seeds: int, only: Iterable[str] | None = None) -> list[Run]:
        """All runs in the order they are started, each after those it needs.

        Seed 1 of every system comes before seed 2 of any, but for the systems named ``first``.

        Arguments
        ---------
        seeds : int
            Numbers from 1 to this.
        only : iterable of str, optional
            Systems to confine it to; what they need comes along.
        """
        names = list(self.systems) if only is None else self._checked(only, "--only")
        first = [name for name in self.first if name in names]
        order: dict[tuple[str, int], None] = {}
        for group in (first, names):
            for seed in range(1, seeds + 1):
                for name in group:
                    if seed <= self.seeds_of(name, seeds):
                        self._add(name, seed, order)
        return [Run(self.systems[name], seed, self._reads(name, seed)) for name, seed in order]

    def _reads(self, name: str, seed: int) -> dict[str, tuple[str, int]]:
        needed = self.systems[name].experiments
        return {
            key: (other, 1 if self.systems[other].model is not None else seed)
            for key, other in needed.items()
        }

    def _add(self, name: str, seed: int, order: dict[tuple[str, int], None]) -> None:
        for needed in self._reads(name, seed).values():
            self._add(*needed, order)
        order[name, seed] = None

    def _checked(self, names: Iterable[str], where: str) -> list[str]:
        names = list(names)
        for name in names:
            if name in self.left_out:
                raise UserError(
                    f"{where}: {name} is left out: {self.left_out[name]}", code="left-out"
                )
            if name not in self.systems:
                raise UserError(
                    f"{where}: there is no system {name}; there are {', '.join(self.systems)}",
                    code="unknown-name",
                )
        return names


def read_plan(path: Path, folders: Mapping[str, Path | None] | None = None) -> Plan:
    """Read and check a comparison's YAML file.

    Arguments
    ---------
    path : Path
        The file.
    folders : mapping, optional
        Where the ``FOLDERS`` are. Systems that ask for one that is not here are left out, with
        those that need them.

    Raises
    ------
    UserError
        When the file is missing, or names a key or a system that does not exist.
    """
    tree = read_yaml(path, "give a file of hparams/comparisons/", typ="safe")
    if not isinstance(tree.get("systems"), dict):
        raise UserError(
            f"{path} has no 'systems': list them by name, each with its 'yaml'", code="missing-key"
        )
    _known(tree, KEYS, str(path))
    every = {name: _system(name, entry, path) for name, entry in tree["systems"].items()}
    left_out = _left_out(every, folders or {}, path)
    systems = {
        name: _with_folders(system, folders or {})
        for name, system in every.items()
        if name not in left_out
    }
    names = list(systems)
    plan = Plan(
        path.stem,
        tree.get("title") or path.stem,
        tree.get("reference") or names[0],
        tree.get("baseline") or names[0],
        tree.get("common") or {},
        systems,
        tree.get("first") or [],
        tree.get("claims") or [],
        tree.get("remarks") or [],
        _lengths(tree.get("lengths") or [], path),
        _norm(tree.get("score_norm"), path),
        left_out,
    )
    plan._checked([plan.reference], f"{path}: reference")
    plan._checked([plan.baseline], f"{path}: baseline")
    plan._checked(plan.first, f"{path}: first")
    for system in systems.values():
        plan._checked(system.experiments.values(), f"{path}: {system.name}")
        _no_circle(plan, system.name, [], path)
    return plan


def _system(name: str, entry: Any, path: Path) -> Variant:
    if not isinstance(entry, dict) or ("yaml" in entry) == ("model" in entry):
        raise UserError(
            f"{path}: {name} needs either 'yaml', the file of hparams/ that describes it, or "
            "'model', a trained one as local/import_teacher.py takes it",
            code="missing-key",
        )
    if not re.fullmatch(r"[\w.-]+", str(name)) or name == "log":
        raise UserError(
            f"{path}: {name} cannot name a system: use letters, digits and _", code="bad-name"
        )
    _known(entry, SYSTEM_KEYS, f"{path}: {name}")
    seeds = entry.get("seeds", 1)
    if seeds != "all" and not (isinstance(seeds, int) and seeds >= 1):
        raise UserError(
            f"{path}: {name} has seeds {seeds}: give 'all' or a number from 1", code="bad-setting"
        )
    return Variant(
        name,
        entry.get("yaml", ""),
        entry.get("teacher"),
        entry.get("overrides") or {},
        None if seeds == "all" else seeds,
        entry.get("model"),
    )


def _given(system: Variant) -> dict[str, str]:
    """The overrides that name one of the ``FOLDERS``, by their keys."""
    return {
        key: value["given"]
        for key, value in system.overrides.items()
        if isinstance(value, Mapping) and set(value) == {"given"}
    }


def _with_folders(system: Variant, folders: Mapping[str, Path | None]) -> Variant:
    found = {key: str(folders[name]) for key, name in _given(system).items()}
    return dataclasses.replace(system, overrides={**system.overrides, **found})


def _left_out(
    systems: Mapping[str, Variant], folders: Mapping[str, Path | None], path: Path
) -> dict[str, str]:
    """The systems that want a folder that is not here, and those that need them; why each."""
    left_out: dict[str, str] = {}
    for system in systems.values():
        for name in _given(system).values():
            if name not in FOLDERS:
                raise UserError(
                    f"{path}: {system.name}: given is one of {', '.join(FOLDERS)}",
                    code="bad-setting",
                )
            if folders.get(name) is None:
                left_out[system.name] = (
                    f"the corpus has no folder {FOLDERS[name]}, and --{name} names no other"
                )
    while True:
        more = {
            system.name: f"it needs {need}, which is left out"
            for system in systems.values()
            for need in system.experiments.values()
            if need in left_out and system.name not in left_out
        }
        if not more:
            return left_out
        left_out |= more


def _lengths(lengths: Any, path: Path) -> list[float]:
    numbers = isinstance(lengths, list) and all(isinstance(n, int | float) for n in lengths)
    if not numbers or any(n < 0.1 for n in lengths) or lengths != sorted(set(lengths)):
        raise UserError(
            f"{path}: lengths {lengths}: give rising seconds of speech, 0.1 or more, as in [1, 10]",
            code="bad-setting",
        )
    return lengths


def _norm(norm: Any, path: Path) -> str | None:
    if norm is not None and norm not in NORMS:
        raise UserError(
            f"{path}: score_norm {norm}: give one of {', '.join(NORMS)}", code="bad-setting"
        )
    return norm


def _known(entry: Mapping[str, Any], keys: set[str], where: str) -> None:
    for key in entry:
        if key not in keys:
            raise UserError(
                f"{where}: nothing reads the key {key}; there are {sorted(keys)}",
                code="unknown-key",
            )


def _no_circle(plan: Plan, name: str, way: list[str], path: Path) -> None:
    if name in way:
        raise UserError(
            f"{path}: {' needs '.join([*way, name])}: a circle, take a teacher out", code="circular"
        )
    for needed in plan.systems[name].experiments.values():
        _no_circle(plan, needed, [*way, name], path)
