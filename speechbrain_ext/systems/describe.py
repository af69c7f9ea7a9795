"""What run.sh asks of the YAML files of a student and its teacher, as assignments of a shell.

    python -m speechbrain_ext.systems.describe STUDENT.yaml [TEACHER.yaml] [--corpus NAME]
        [--large_margin STUDENT.yaml]
    python -m speechbrain_ext.systems.describe --embedding_size EXPERIMENT

It makes nothing of what the files name, and does without PyTorch unless it is asked about a corpus.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
from pathlib import Path
from typing import Any

from speechbrain_ext.errors import UserError, friendly_exit
from speechbrain_ext.systems.settings import NAME
from speechbrain_ext.systems.yaml import merge, read_layers, read_yaml

HPARAMS = Path("hparams")
# The folder of a teacher that run.sh trains, as files of hparams/ name it.
TRAINED = re.compile(r"<exp_root>/<corpus>/([^/]+)/seed_<seed>")


def describe_yaml(
    student: str | os.PathLike[str], teacher: str | os.PathLike[str] | None = None
) -> dict[str, str]:
    """Tell what a student learns from.

    Arguments
    ---------
    student : str or path
        YAML file of the student.
    teacher : str or path, optional
        That of its teacher. By default that of the system whose folder is the student's
        ``teacher_folder``, in ``hparams/`` or ``hparams/ssl/``, else ``hparams/teacher.yaml``.

    Returns
    -------
    dict of str to str
        ``student_system`` and ``teacher_system`` name their folders; ``teacher`` is the file.
        ``teacher_as_it_is`` is "true" where the teacher is no experiment but the model that the
        student's ``teacher_source`` names; ``teacher_name`` is then that model, or empty where
        ``teacher`` is null, and else the file. ``student_of_model`` and ``teacher_of_model`` are
        "true" for files with a ``teacher_source``, which need the extra ``ssl``.
        ``student_classifies`` is "true" unless the student's ``classifier`` is null.

    Raises
    ------
    UserError
        For a file that is missing or no YAML, or that names no system.

    Example
    -------
    >>> path = getfixture("tmp_path") / "mine.yaml"
    >>> _ = path.write_text("{system: mine, teacher_source: some/wavlm, teacher: a model}")
    >>> facts = describe_yaml(path, path)
    >>> facts["student_system"], facts["teacher_as_it_is"], facts["teacher_name"]
    ('mine', 'true', 'some/wavlm')
    """
    system, tree = _read(student, "student")
    teacher = _trained_teacher(tree) if teacher is None else teacher
    teacher_system, teacher_tree = _read(teacher, "teacher")
    as_it_is = "teacher_source" in tree and "teacher_folder" not in tree
    name = str(teacher)
    if as_it_is:
        name = "" if tree.get("teacher", "") is None else str(tree["teacher_source"])
    return {
        "student_system": system,
        "student_of_model": _switch("teacher_source" in tree),
        "student_classifies": _switch(tree.get("classifier", "") is not None),
        "teacher": str(teacher),
        "teacher_system": teacher_system,
        "teacher_of_model": _switch("teacher_source" in teacher_tree),
        "teacher_as_it_is": _switch(as_it_is),
        "teacher_name": name,
    }


def _read(path: str | os.PathLike[str], option: str) -> tuple[str, Any]:
    """The system that a file itself says it is, and all its keys."""
    layers = read_layers(path)
    system = layers[-1].get("system")  # of a file on which it builds, it is another's
    if not NAME.holds(system):
        raise UserError(
            f"--{option} {path} has no line 'system: NAME' to name its folder by, without a slash "
            "and not with . or - first.",
            code="missing-key",
        )
    return system, merge(layers)


def _trained_teacher(student: Any) -> Path:
    folder = student.get("teacher_folder")
    found = TRAINED.search(str(getattr(folder, "value", folder)))
    files = [place / f"{found[1]}.yaml" for place in (HPARAMS, HPARAMS / "ssl")] if found else []
    return next(filter(Path.is_file, files), HPARAMS / "teacher.yaml")


def _switch(value: bool) -> str:
    return "true" if value else "false"


def main() -> None:
    """Print what run.sh asks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("student", nargs="?")
    parser.add_argument("teacher", nargs="?")
    parser.add_argument("--large_margin")
    parser.add_argument("--corpus")
    parser.add_argument("--embedding_size", metavar="EXPERIMENT")
    arguments = parser.parse_args()
    if arguments.embedding_size is not None:
        path = Path(arguments.embedding_size) / "hyperparams.yaml"
        print(read_yaml(path, "run stage 2 first")["lin_neurons"])
        return
    facts = describe_yaml(arguments.student, arguments.teacher)
    if arguments.large_margin is not None:
        facts["large_margin_system"], _ = _read(arguments.large_margin, "large_margin")
    if arguments.corpus is not None:
        from speechbrain_ext.corpora.maker import describe_corpus  # with PyTorch

        facts.update(describe_corpus(arguments.corpus))
    for key, text in facts.items():
        print(f"{key}={shlex.quote(text)}")


if __name__ == "__main__":
    with friendly_exit():
        main()
