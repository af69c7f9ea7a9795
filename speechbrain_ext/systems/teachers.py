"""The teacher of an experiment that is no experiment itself: a self-supervised model."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ruamel.yaml
from hyperpyyaml import load_hyperpyyaml

from speechbrain_ext.errors import UserError
from speechbrain_ext.lobes.encoders import SpeakerEncoder
from speechbrain_ext.systems.yaml import read_setting


def teacher_name(settings: Mapping[str, Any]) -> str | None:
    """The name of the teacher that ``teacher_source`` says: of a folder, its last part.

    Example
    -------
    >>> teacher_name({"teacher_source": "microsoft/wavlm-large"})
    'microsoft/wavlm-large'
    >>> teacher_name({"teacher_source": "/models/wavlm-large/"})
    'wavlm-large'
    >>> teacher_name({"teacher_folder": "exp/mini/teacher/seed_1"})
    """
    source = settings.get("teacher_source")
    if source is None:
        return None
    source = os.path.normpath(str(source))
    return Path(source).name if source.startswith(("/", ".")) else source


def load_teacher(folder: str | os.PathLike[str]) -> tuple[str, SpeakerEncoder]:
    """Build the teacher of an experiment folder. Its YAML is executed: trust it first.

    Arguments
    ---------
    folder : str or path
        Experiment folder of a student.

    Returns
    -------
    (str, SpeakerEncoder)
        Its name, and its encoder on the CPU, in eval mode.

    Raises
    ------
    UserError
        When the experiment has no such teacher, or it cannot be loaded here.
    """
    name = teacher_name({"teacher_source": read_setting(folder, "teacher_source")})
    teacher = read_setting(folder, "teacher")
    if name is None:
        raise UserError(f"{folder} has no teacher_source: measure its teacher's experiment beside")
    if teacher is None:
        raise UserError(f"{folder} was trained without a teacher")
    part = io.StringIO()
    ruamel.yaml.YAML().dump({"teacher": teacher}, part)
    try:
        encoder = load_hyperpyyaml(part.getvalue())["teacher"].encoder
    except (UserError, OSError, ValueError, TypeError, ImportError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"the teacher {name} cannot be loaded here ({reason})") from None
    return name, encoder.eval()
