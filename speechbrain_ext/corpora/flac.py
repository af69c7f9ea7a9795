"""How speech is kept that a command makes: mono, 16 kHz, 16 bits, FLAC."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import soundfile

from speechbrain_ext.errors import UserError
from speechbrain_ext.files import atomic_path
from speechbrain_ext.formats import SAMPLE_RATE


def write_speech(path: Path, wav: np.ndarray) -> None:
    """Write a waveform (samples,), in -1..1 or of 16-bit integers, whole or not at all.

    Its folder is made when missing.

    Raises
    ------
    UserError
        When it cannot be written.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a" / "1.flac"
    >>> write_speech(path, np.zeros(800))
    >>> soundfile.info(path).frames
    800
    """
    content = io.BytesIO()
    soundfile.write(content, wav, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    try:
        with atomic_path(path) as temporary:
            temporary.write_bytes(content.getvalue())
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror}); make room or mend that, and run this "
            "again to go on.",
            code="unwritable",
        ) from None
