"""Speed and size of all finished systems, measured side by side once."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from speechbrain_ext.compare.claims import Speed
from speechbrain_ext.compare.collect import Trained
from speechbrain_ext.compare.commands import Place
from speechbrain_ext.compare.machine import describe
from speechbrain_ext.errors import UserError
from speechbrain_ext.files import atomic_path
from speechbrain_ext.measure.speed import benchmark_encoders, benchmark_lengths
from speechbrain_ext.systems.experiment import encoder_yaml, load_encoder


def measured(place: Place, trained: Sequence[Trained], may_measure: bool) -> dict[str, Any]:
    """The figures of :func:`benchmark_encoders` for the first seed of every system, on the CPU.

    With those of :func:`benchmark_lengths` in ``by_length``, where the ablation names lengths. They
    are kept in ``speed.json`` and measured again when systems, weights or lengths are others.
    Systems whose encoders are the same part of a YAML differ in their training alone: one of them
    is measured for all.

    Arguments
    ---------
    place : Place
        The ablation.
    trained : sequence of Trained
        The finished runs.
    may_measure : bool
        False while trainings would disturb: then what is known is given, which may be nothing.
    """
    path = place.folder / "speed.json"
    first: dict[str, Trained] = {}
    for each in sorted(trained, key=lambda each: each.run.seed):
        first.setdefault(each.run.system.name, each)
    baseline = place.ablation.baseline
    names = sorted(first, key=lambda name: name != baseline)  # compared with the first
    weights = {name: first[name].record.weights for name in names}
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    lengths = place.ablation.lengths
    same_lengths = not lengths or known.get("by_length", {}).get("lengths") == lengths
    if (known.get("weights") == weights and same_lengths) or not may_measure or not first:
        return known
    encoders, failed = {}, {}
    same: dict[str, list[str]] = {}
    for name in names:
        try:
            # Anchors are numbered by what else the file holds.
            own = re.sub(r"([&*]id)\d+", r"\1", encoder_yaml(first[name].folder))
            if own not in same:
                encoders[name] = load_encoder(first[name].folder)
            same.setdefault(own, []).append(name)
        except (UserError, ValueError, TypeError, AttributeError, ImportError) as error:
            failed[name] = str(error).split("\n")[0]
    Console(stderr=True).print(f"Measuring the speed of {len(encoders)} networks side by side")
    figures = benchmark_encoders(encoders) if encoders else {"systems": []}
    sharing = {group[0]: group for group in same.values()}
    figures["systems"] = _for_all(figures["systems"], sharing)
    if lengths and encoders:
        by_length = benchmark_lengths(encoders, lengths)
        figures["by_length"] = {**by_length, "systems": _for_all(by_length["systems"], sharing)}
    known = {
        "weights": weights,
        "failed": failed,
        "machine": describe({"OMP_NUM_THREADS": str(figures.get("threads"))}, "cpu"),
        **figures,
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    return known


def _for_all(systems: list[dict[str, Any]], sharing: dict[str, list[str]]) -> list[dict[str, Any]]:
    """The figures of a system for all that share its measurement."""
    return [{**system, "name": name} for system in systems for name in sharing[system["name"]]]


def speeds(figures: dict[str, Any]) -> dict[str, Speed]:
    """Utterances per second of every system, the front end included."""
    found = {}
    for system in figures.get("systems", []):
        whole = system["from_waveform"]
        found[system["name"]] = Speed(whole["utterances_per_second"], *whole["spread"])
    return found
