"""How speech is kept that a command makes: mono, 16 kHz, 16 bits, FLAC."""

from __future__ import annotations

import io
from pathlib import Path

import soundfile
from torch import Tensor

from speechbrain_ext.audio import SAMPLE_RATE
from speechbrain_ext.errors import UserError
from speechbrain_ext.files import atomic_path


def write_speech(path: Path, wav: Tensor) -> None:
    """Write a waveform (samples,), whole or not at all; its folder is made when missing.

    Raises
    ------
    UserError
        When it cannot be written.

    Example
    -------
    >>> import torch
    >>> path = getfixture("tmp_path") / "a" / "1.flac"
    >>> write_speech(path, torch.zeros(800))
    >>> soundfile.info(path).frames
    800
    """
    content = io.BytesIO()
    soundfile.write(content, wav.numpy(), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    try:
        with atomic_path(path) as temporary:
            temporary.write_bytes(content.getvalue())
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror}); make room or mend that, and run this "
            "again to go on.",
            code="unwritable",
        ) from None
