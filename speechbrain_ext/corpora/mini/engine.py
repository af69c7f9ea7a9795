"""The speech synthesiser eSpeak NG, called through ctypes."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from speechbrain_ext.errors import UserError

_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)
# Constants of speak_lib.h.
_OUTPUT_SYNCHRONOUS = 2
_DONT_EXIT_ON_ERROR = 0x8000
_CHARACTER_POSITION = 1
_UTF8 = 1
_RATE, _PITCH, _RANGE = 1, 3, 4


def _import_loader() -> Any:
    try:
        import espeakng_loader
    except ImportError:
        raise UserError(
            "the mini corpus needs eSpeak NG: `pip install espeakng-loader==0.2.4` (it has no "
            "wheel for musl-based systems such as Alpine; there, give your own speech with "
            "--data of run.sh).",
            code="missing-program",
        ) from None
    return espeakng_loader


def data_folder() -> Path:
    """Where eSpeak NG keeps its dictionaries and language files."""
    return Path(_import_loader().get_data_path())


class Espeak:
    """One private load of eSpeak NG; use it as a context manager, in one thread.

    What it says depends on a random generator and on everything said since it was loaded. So
    whoever wants the same samples again opens a new one with the same seed: leaving the block
    unloads the library, which is the only way to clear its state.

    Arguments
    ---------
    seed : int
        Seed of the synthesiser's own random generator (breath, flutter).

    Raises
    ------
    UserError
        When the PyPI package ``espeakng-loader`` is missing.

    Example
    -------
    >>> with Espeak(seed=1) as engine:  # doctest: +SKIP
    ...     wave = engine.say("Good morning.", Path("/tmp/voice"))
    """

    def __init__(self, seed: int) -> None:
        library = ctypes.CDLL(_import_loader().get_library_path())
        library.espeak_Initialize.argtypes = [
            ctypes.c_int,
            ctypes.c_int,
            ctypes.c_char_p,
            ctypes.c_int,
        ]
        library.espeak_SetSynthCallback.argtypes = [_CALLBACK]
        library.espeak_SetSynthCallback.restype = None
        library.espeak_SetVoiceByFile.argtypes = [ctypes.c_char_p]
        library.espeak_SetParameter.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int]
        library.espeak_Synth.argtypes = [
            ctypes.c_char_p,
            ctypes.c_size_t,
            ctypes.c_uint,
            ctypes.c_int,
            ctypes.c_uint,
            ctypes.c_uint,
            ctypes.POINTER(ctypes.c_uint),
            ctypes.c_void_p,
        ]
        library.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
        self._library = library
        self.sample_rate: int = library.espeak_Initialize(
            _OUTPUT_SYNCHRONOUS, 0, os.fsencode(data_folder()), _DONT_EXIT_ON_ERROR
        )
        if self.sample_rate <= 0:
            raise UserError(
                f"eSpeak NG could not read its data in {data_folder()}; reinstall espeakng-loader.",
                code="missing-program",
            )
        library.espeak_ng_SetRandSeed(seed)
        self._chunks: list[npt.NDArray[np.int16]] = []
        self._callback = _CALLBACK(self._collect)  # the library keeps only a bare pointer to it
        library.espeak_SetSynthCallback(self._callback)

    def _collect(self, wave: Any, samples: int, _events: int | None) -> int:
        if wave and samples > 0:
            self._chunks.append(np.ctypeslib.as_array(wave, (samples,)).copy())
        return 0

    def say(
        self,
        text: str,
        voice_file: Path,
        rate: float = 165.0,
        pitch: float = 50.0,
        pitch_range: float = 50.0,
    ) -> npt.NDArray[np.float32]:
        """Speak a sentence.

        Arguments
        ---------
        text : str
            What to say.
        voice_file : Path
            An eSpeak NG voice file, as an absolute path.
        rate : float
            Words a minute.
        pitch, pitch_range : float
            Height and liveliness of the melody, 0 to 100; 50 is what the voice file says.

        Returns
        -------
        numpy.ndarray
            Samples in -1..1, at ``sample_rate`` Hz, of shape (samples,).
        """
        if self._library.espeak_SetVoiceByFile(os.fsencode(voice_file)):
            raise RuntimeError(f"eSpeak NG refuses the voice file {voice_file}")
        # After the voice, which resets them.
        for parameter, value in ((_RATE, rate), (_PITCH, pitch), (_RANGE, pitch_range)):
            self._library.espeak_SetParameter(parameter, round(value), 0)
        self._chunks = []
        sentence = text.encode() + b"\0"
        failed = self._library.espeak_Synth(
            sentence, len(sentence), 0, _CHARACTER_POSITION, 0, _UTF8, None, None
        )
        if failed:
            raise RuntimeError(f"eSpeak NG cannot say {text!r}")
        self._library.espeak_Synchronize()
        if not self._chunks:
            return np.zeros(0, np.float32)
        return np.concatenate(self._chunks).astype(np.float32) / np.float32(32768)

    def close(self) -> None:
        """Unload the library."""
        import _ctypes

        self._library.espeak_Terminate()
        handle = self._library._handle
        if sys.platform == "win32":
            _ctypes.FreeLibrary(handle)
        else:
            _ctypes.dlclose(handle)

    def __enter__(self) -> Espeak:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
