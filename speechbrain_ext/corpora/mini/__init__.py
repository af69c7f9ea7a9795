"""A synthetic multi-speaker corpus, spoken by eSpeak NG with invented voices in invented rooms."""

from __future__ import annotations

import argparse
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import fields
from pathlib import Path
from typing import Any

from speechbrain_ext.corpora.folder import PARTIAL_FOLDER, claim_corpus, finish_corpus
from speechbrain_ext.corpora.maker import CorpusMaker
from speechbrain_ext.corpora.mini.options import MiniOptions, SpeakerTask, speaker_tasks
from speechbrain_ext.corpora.worker_pool import worker_pool
from speechbrain_ext.errors import UserError
from speechbrain_ext.files import atomic_path
from speechbrain_ext.progress import progress_bar


def _render_speaker(options: MiniOptions, task: SpeakerTask, out: Path) -> None:
    from speechbrain_ext.corpora.mini.render import render_speaker  # SciPy takes its time

    render_speaker(options, task, out / PARTIAL_FOLDER, out)


def _render_all(options: MiniOptions, tasks: list[SpeakerTask], out: Path, jobs: int) -> None:
    with progress_bar(total=len(tasks), desc="mini corpus", unit=" speakers") as bar:
        if jobs == 1:
            for task in tasks:
                _render_speaker(options, task, out)
                bar.update()
            return
        # Processes and no threads, because the synthesiser has global state.
        with worker_pool(min(jobs, len(tasks))) as pool:
            futures = [pool.submit(_render_speaker, options, task, out) for task in tasks]
            for future in as_completed(futures):
                future.result()
                bar.update()


def make_mini_corpus(options: MiniOptions, out: Path, jobs: int = 2) -> bool:
    """Make what is missing of the corpus.

    Arguments
    ---------
    options : MiniOptions
        Size and seed.
    out : Path
        The corpus folder.
    jobs : int
        Number of processes; they change nothing but the time.

    Returns
    -------
    bool
        Whether there was anything to do.

    Raises
    ------
    UserError
        When ``out`` holds another corpus, or eSpeak NG is missing, or a file cannot be written.
    """
    if jobs < 1:
        raise UserError(f"--jobs is {jobs} but must be at least 1.", code="bad-option")
    finished = claim_corpus(out, options.description())
    tasks = [t for t in speaker_tasks(options) if not (out / t.split / t.name).is_dir()]
    if finished and not tasks:
        return False

    from speechbrain_ext.corpora.mini.engine import data_folder
    from speechbrain_ext.corpora.mini.noises import write_augmentation
    from speechbrain_ext.corpora.mini.trials import draw_trials

    data_folder()  # a missing engine is told before any work begins
    try:
        if tasks:
            _render_all(options, tasks, out, jobs)
        write_augmentation(options, out)
        with atomic_path(out / "trials" / "test.txt") as temporary:
            temporary.write_text("\n".join(draw_trials(options)) + "\n", encoding="utf-8")
        finish_corpus(out, options.description())
    except BrokenProcessPool:
        raise UserError(
            f"a process that made {out} was killed, perhaps for want of memory; run this again "
            "with a smaller --jobs to go on.",
            code="killed-process",
        ) from None
    except OSError as error:
        raise UserError(
            f"cannot write {out}: {error.strerror or error}; mend it and run this again to go on.",
            code="unwritable",
        ) from error
    return True


_OPTIONS = {
    "seed": (("--seed", "--corpus_seed"), "another seed gives other speakers"),
    "train_speakers": (("--train_speakers",), "speakers in dev/"),
    "test_speakers": (("--test_speakers",), "speakers in test/; never among those of dev/"),
    "sessions": (("--sessions",), "sessions of a speaker, each with its own channel"),
    "utterances": (("--utterances",), "recordings in a session"),
    "min_seconds": (("--min_seconds",), "least length of a recording"),
    "max_seconds": (("--max_seconds",), "greatest length of a recording"),
}


class MiniCorpus(CorpusMaker):
    """The embedded corpus: synthetic speech of invented speakers, laid out like VoxCeleb.

    The same options give the same samples on a machine, whatever the number of processes. A run
    that was killed goes on where it stopped when it is started again; one that finished does
    nothing.
    """

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the options, one for each field of :class:`MiniOptions`."""
        for field in fields(MiniOptions):
            assert field.default is not None
            names, text = _OPTIONS[field.name]
            parser.add_argument(
                *names,
                type=type(field.default),
                default=field.default,
                help=f"{text} (default: %(default)s)",
            )

    def prepare(self, out: Path, options: argparse.Namespace) -> dict[str, Any]:
        """Make what is missing of the corpus."""
        chosen = MiniOptions(**{f.name: getattr(options, f.name) for f in fields(MiniOptions)})
        if make_mini_corpus(chosen, out, options.jobs):
            print(f"{out}: {len(speaker_tasks(chosen))} synthetic speakers")
        else:
            print(f"{out} is there already")
        return chosen.description()


CORPUS = MiniCorpus()
