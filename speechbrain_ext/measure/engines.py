"""Speed of the same encoders in several engines, side by side, and beside what the machine can."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from speechbrain_ext.errors import UserError, brought_by
from speechbrain_ext.formats import SAMPLE_RATE
from speechbrain_ext.lobes.encoders import SpeakerEncoder
from speechbrain_ext.lobes.features import Waveforms
from speechbrain_ext.measure.engine_memory import peak_megabytes
from speechbrain_ext.measure.speed import ENGINES, count_macs, time_side_by_side, timed_noise

with brought_by("export"):
    from speechbrain_ext.export.fewer_bits import quantise
    from speechbrain_ext.export.graphs import (
        join_graphs,
        write_embedding_graph,
        write_front_end_graph,
    )
    from speechbrain_ext.export.parity import open_session

CEILING = "ceiling"
#: What places that are compared differ by.
PLACE = ("threads", "batch", "seconds_of_speech")
# A large matrix product: (1600, 1152) times (1152, 1152).
_PRODUCT = 1600, 1152, 1152
# Scales do not matter to the speed.
_CALIBRATION = 4

Work = Callable[[], object]


def benchmark_engines(
    encoders: Mapping[str, SpeakerEncoder],
    engines: Sequence[str] = ("eager", "onnx", "int8"),
    threads: Sequence[int] = (1,),
    batches: Sequence[int] = (8,),
    lengths: Sequence[float] = (2.0,),
    rounds: int = 20,
) -> list[dict[str, Any]]:
    """Measure encoders in engines on the CPU, all in turns.

    Arguments
    ---------
    encoders : mapping
        Encoders by name; the first, eager, is what the others are compared with.
    engines : sequence of str
        Of :data:`~speechbrain_ext.measure.speed.ENGINES`.
    threads : sequence of int
        Of the CPU.
    batches : sequence of int
        Utterances at once.
    lengths : sequence of float
        Seconds of each.
    rounds : int
        Times each is measured.

    Returns
    -------
    list of dict
        For each number of threads, batch, length, encoder and engine: ``threads``, ``batch``,
        ``seconds_of_speech``, ``system``, ``engine``, ``input`` (``features`` or ``waveform``),
        ``median`` and ``p95`` seconds of a call, ``utterances_per_second``, ``real_time_factor``,
        ``relative`` (to the first encoder, eager, of the same input), ``share_of_ceiling``, of the
        network on features: its multiply-accumulates a second as a share of those of a large matrix
        product in the same rounds, None of a file that PyTorch cannot look into; and from the
        waveform on ``bytes`` of the file and ``peak_mb`` of one utterance: megabytes that a process
        takes beyond its engine. A network that cannot leave PyTorch is in its engines alone.

    Raises
    ------
    ValueError
        When there is no such engine, or ``eager`` is not among them.
    """
    if not {"eager"} <= set(engines) <= set(ENGINES):
        raise ValueError(f"engines are of {', '.join(ENGINES)}, eager among them: {list(engines)}")
    before, rows = torch.get_num_threads(), []
    with tempfile.TemporaryDirectory() as folder:
        graphs = dict(_graphs(encoders, engines, Path(folder)))
        files = {**graphs, **dict(_saved(encoders, Path(folder)))}
        peaks = {
            (name, engine, length): peak_megabytes(file, length, threads[0])
            for (name, engine, given), file in files.items()
            if given == "waveform" and engine in engines
            for length in lengths
        }
        for number in threads:
            torch.set_num_threads(number)
            for batch in batches:
                for length in lengths:
                    place = {"threads": number, "batch": batch, "seconds_of_speech": length}
                    found = _measure(encoders, engines, graphs, place, rounds)
                    rows += [place | row for row in found]
        torch.set_num_threads(before)
        for row in rows:
            file = files.get((row["system"], row["engine"], row["input"]))
            whole = row["system"], row["engine"], row["seconds_of_speech"]
            row["bytes"] = file and file.stat().st_size
            row["peak_mb"] = peaks.get(whole) if row["input"] == "waveform" else None
    return rows


def engine_figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the time from the waveform on of every system in every engine, in the first place.

    Returns
    -------
    Figure
        For :func:`speechbrain_ext.verification.plots.save_figure`.
    """
    first = [rows[0][key] for key in PLACE]
    shown = [row for row in rows if [row[key] for key in PLACE] == first]
    shown = [row for row in shown if row["input"] == "waveform"]
    systems, engines = (list(dict.fromkeys(r[k] for r in shown)) for k in ("system", "engine"))
    figure = Figure(figsize=(8.0, 1.2 + 0.22 * len(shown)), layout="constrained")
    axes, thickness = figure.subplots(), 0.8 / len(engines)
    for number, engine in enumerate(engines):
        own = [row for row in shown if row["engine"] == engine]
        places = [systems.index(row["system"]) + thickness * number for row in own]
        bars = axes.barh(places, [1e3 * row["median"] for row in own], thickness, label=engine)
        axes.bar_label(bars, fmt="%.1f", padding=2, fontsize="small")
    centre = thickness * (len(engines) - 1) / 2
    axes.set_yticks([place + centre for place in range(len(systems))], systems)
    axes.invert_yaxis()
    threads, batch, seconds = first
    axes.set_xlabel(f"ms for {batch} × {seconds:g} s from the waveform on, {threads} threads")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure


def _saved(
    encoders: Mapping[str, SpeakerEncoder], folder: Path
) -> Iterator[tuple[tuple[str, str, str], Path]]:
    """The encoders as PyTorch's files, but those that are a file already."""
    for number, (name, encoder) in enumerate(encoders.items()):
        if encoder.num_parameters is not None:
            path = folder / f"{number}.pt"
            torch.save(encoder.eval(), path)
            yield (name, "eager", "waveform"), path


def _graphs(
    encoders: Mapping[str, SpeakerEncoder], engines: Sequence[str], folder: Path
) -> Iterator[tuple[tuple[str, str, str], Path]]:
    """Files by encoder, engine and input."""
    for number, (name, encoder) in enumerate(encoders.items()):
        stem = folder / str(number)
        network, front_end = Path(f"{stem}.onnx"), Path(f"{stem}.front_end.onnx")
        try:
            write_embedding_graph(encoder, network)
        except UserError as error:
            print(f"{name} is measured in PyTorch alone: {error}")
            continue
        by_engine = {"onnx": network}
        if "int8" in engines:
            by_engine["int8"] = Path(f"{stem}.int8.onnx")
            with torch.no_grad():
                given = [
                    encoder.compute_features(timed_noise(1, 2 * SAMPLE_RATE)).numpy()
                    for _ in range(_CALIBRATION)
                ]
            quantise(network, by_engine["int8"], given)
        reads_waveforms = isinstance(encoder.compute_features, Waveforms)
        if not reads_waveforms:
            write_front_end_graph(encoder, front_end)
        for engine, path in by_engine.items():
            if engine not in engines:
                continue
            yield (name, engine, "features"), path
            if not reads_waveforms:
                whole = Path(f"{stem}.{engine}.waveform.onnx")
                join_graphs(front_end, path, whole)
                path = whole
            yield (name, engine, "waveform"), path


def _measure(
    encoders: Mapping[str, SpeakerEncoder],
    engines: Sequence[str],
    graphs: Mapping[tuple[str, str, str], Path],
    place: Mapping[str, Any],
    rounds: int,
) -> Iterator[dict[str, Any]]:
    wavs = timed_noise(place["batch"], round(place["seconds_of_speech"] * SAMPLE_RATE))
    work: dict[str, Work] = {}
    about: dict[str, tuple[str, str, str]] = {}
    macs: dict[str, int | None] = {}

    def add(system: str, engine: str, given: str, function: Work) -> None:
        key = " ".join((system, engine, given))
        work[key], about[key] = function, (system, engine, given)

    with torch.inference_mode():
        for name, encoder in encoders.items():
            encoder.eval().requires_grad_(False)
            feats = encoder.compute_features(wavs)
            normalised = encoder.mean_var_norm(feats)
            network = encoder.embedding_model
            known = encoder.num_parameters is not None
            macs[name] = count_macs(network, normalised.clone()) if known else None
            for engine in engines:
                if engine in ("eager", "compile"):
                    parts = {"features": (network, normalised), "waveform": (encoder, wavs)}
                    for given, (module, x) in parts.items():
                        called = torch.compile(module) if engine == "compile" else module
                        add(name, engine, given, partial(called, x))
                    continue
                if (name, engine, "waveform") not in graphs:
                    continue
                for given, x in (("features", feats), ("waveform", wavs)):
                    session = open_session(graphs[name, engine, given], place["threads"])
                    entry = {session.get_inputs()[0].name: np.ascontiguousarray(x.numpy())}
                    add(name, engine, given, partial(session.run, None, entry))
        rows, inner, columns = _PRODUCT
        work[CEILING] = partial(torch.mm, torch.randn(rows, inner), torch.randn(inner, columns))
        # Each is called before it is timed: the threads of the one before may still be spinning.
        seconds = time_side_by_side(work, rounds, torch.device("cpu"), settle=1)
    ceiling = np.prod(_PRODUCT) / np.median(seconds[CEILING])
    first = next(iter(encoders))
    for key, (name, engine, given) in about.items():
        median = float(np.median(seconds[key]))
        speech = place["batch"] * place["seconds_of_speech"]
        base = float(np.median(seconds[" ".join((first, "eager", given))]))
        count = macs[name] if given == "features" else None
        yield {
            "system": name,
            "engine": engine,
            "input": given,
            "median": median,
            "p95": float(np.quantile(seconds[key], 0.95)),
            "utterances_per_second": place["batch"] / median,
            "real_time_factor": median / speech,
            "relative": base / median,
            "share_of_ceiling": None if count is None else float(count / median / ceiling),
        }
