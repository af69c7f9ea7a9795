"""What run.sh asks of the YAML files of a student and its teacher, as assignments of a shell.

    python -m speechbrain_ext.systems.describe [--student STUDENT.yaml] [--teacher TEACHER.yaml]
        [--teacher_model MODEL --teacher_args "--key value"] [--teacher_exp EXPERIMENT]
        [--large_margin STUDENT.yaml] [--corpus NAME]
    python -m speechbrain_ext.systems.describe --student_options TEACHER_EXPERIMENT
    python -m speechbrain_ext.systems.describe --enrols TEACHER_EXPERIMENT STUDENT_EXPERIMENT

It makes nothing of what the files name, and does without PyTorch unless it is asked about a corpus,
a model that comes along, or who enrols.
"""

from __future__ import annotations

import argparse
import os
import pydoc
import re
import shlex
from pathlib import Path
from typing import Any

from speechbrain_ext.errors import UserError, friendly_exit
from speechbrain_ext.systems.settings import NAME
from speechbrain_ext.systems.yaml import merge, read_layers, read_yaml

HPARAMS = Path("hparams")
LICENCE = "licence"  # a key of the experiments of models that come along, and of no others
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
        ``label_free`` are the options by which the student learns without labels; it needs none
        where its ``classifier`` is null.

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
        "label_free": _label_free(tree),
        "teacher": str(teacher),
        "teacher_system": teacher_system,
        "teacher_of_model": _switch("teacher_source" in teacher_tree),
        "teacher_as_it_is": _switch(as_it_is),
        "teacher_name": name,
    }


def student_options(teacher_exp: str | os.PathLike[str]) -> str:
    """Tell what a student of an experiment needs besides: a model that came along, its size.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> _ = (folder / "hyperparams.yaml").write_text("{lin_neurons: 192, licence: MIT}")
    >>> student_options(folder)
    '--lin_neurons 192'
    """
    tree = _experiment(teacher_exp)
    return f"--lin_neurons {tree['lin_neurons']}" if LICENCE in tree else ""


def enrols(teacher_exp: str | os.PathLike[str], student_exp: str | os.PathLike[str]) -> bool:
    """Tell whether a model came along, taught the student, and has the student in its space.

    Those of a student that learned where the teacher has each do: not those that a layer of the
    training took there, and not those that only resemble one another as the teacher's do.
    """
    teacher, student = _experiment(teacher_exp), _experiment(student_exp)
    if LICENCE not in teacher or student.get("teacher", "") is None:
        return False
    if Path(str(student.get("teacher_folder"))).resolve() != Path(teacher_exp).resolve():
        return False
    loss = getattr(getattr(student.get("distillation"), "tag", None), "value", None) or ""
    return (
        student.get("alpha", 0) != 0
        and student.get("projection") is None
        and student.get("lin_neurons") == teacher["lin_neurons"]
        and getattr(pydoc.locate(loss.removeprefix("!new:")), "one_space", False)
    )


def _experiment(folder: str | os.PathLike[str]) -> Any:
    return read_yaml(Path(folder) / "hyperparams.yaml", f"{folder} is no experiment")


def _label_free(tree: Any) -> str:
    if tree.get("classifier", "") is None:
        return ""
    weights = dict(tree.get("term_weights") or {}).values()
    rest = 1 - sum(weight for weight in weights if isinstance(weight, (int, float)))
    return f"--classifier null --alpha {rest:g}"


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


def needs_onnx(tree: Any) -> bool:
    """Whether ONNX Runtime, of the extra ``export``, runs the encoder of a YAML tree."""
    return str(tree["embedding_model"].tag.value).endswith(".OnnxModel")


def _switch(value: bool) -> str:
    return "true" if value else "false"


def main() -> None:
    """Print what run.sh asks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--student")
    parser.add_argument("--teacher")
    parser.add_argument("--teacher_model")
    parser.add_argument("--teacher_args")
    parser.add_argument("--teacher_exp")
    parser.add_argument("--large_margin")
    parser.add_argument("--corpus")
    parser.add_argument("--student_options", metavar="EXPERIMENT")
    parser.add_argument("--enrols", nargs=2, metavar="EXPERIMENT")
    arguments = parser.parse_args()
    if arguments.student_options is not None:
        print(student_options(arguments.student_options))
        return
    if arguments.enrols is not None:
        print(_switch(enrols(*arguments.enrols)))
        return
    extras, comes_along = ["mini"], False
    named: dict[str, str] = {}
    if arguments.teacher_exp is not None:
        path = Path(arguments.teacher_exp) / "hyperparams.yaml"
        tree = read_yaml(path, "") if path.is_file() else {}
        comes_along = LICENCE in tree
    if arguments.teacher_model is not None:
        from speechbrain_ext.systems import imported  # with PyTorch

        model, teachers = arguments.teacher_model, HPARAMS / "teachers"
        path, _ = imported.choose_yaml(model, teachers)
        comes_along, tree = True, merge(read_layers(path))
        named["teacher_system"] = imported.model_name(model, teachers)
        if arguments.teacher_args is not None:  # it is still to come along
            imported.model_settings(model, shlex.split(arguments.teacher_args), teachers)
    student = arguments.student or HPARAMS / ("v6.yaml" if comes_along else "v2.yaml")
    facts = describe_yaml(student, arguments.teacher) | named | {"student": str(student)}
    if "true" in (facts["student_of_model"], facts["teacher_of_model"]):
        extras.append("ssl")
    if comes_along and needs_onnx(tree):
        extras.append("export")
    facts["extras"] = ",".join(extras)
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
