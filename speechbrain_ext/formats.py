"""What audio is called and how it is heard, apart from what reads it: without PyTorch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

#: Samples per second of everything that the models hear; audio of another rate is resampled.
SAMPLE_RATE = 16000
#: Endings of files that libsndfile reads; those that training reads as they are come first.
READABLE = (
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".mp2", ".wave", ".aif", ".aiff", ".aifc"),
    *(".au", ".snd", ".caf", ".w64", ".rf64", ".sph", ".nist"),
)
#: Endings of files that ffmpeg has to decode, those of video with sound among them. libsndfile
#: takes the marks between the blocks of a .voc for sound.
DECODED = (
    *(".m4a", ".m4b", ".aac", ".wma", ".amr", ".awb", ".3gp", ".3g2", ".ape", ".ac3", ".wv"),
    *(".tta", ".voc", ".spx", ".mka", ".weba", ".webm", ".mp4", ".mov", ".mkv", ".avi", ".flv"),
)
#: Endings of all files that hold sound, the one list that every command goes by.
AUDIO = (*READABLE, *DECODED)

#: The features that models of one file are trained on, by the toolkit that the file comes from;
#: None is the waveform itself.
FEATURES: dict[str, dict[str, Any] | None] = {
    "wespeaker": {"window": "hamming", "scale": 32768.0},
    "3d-speaker": {"window": "povey", "scale": 1.0},
    "waveform": None,
}
#: What ``normalize_samples`` says of them: whether they are numbers of 16 bits or lie in [-1, 1].
SCALES = {"0": 32768.0, "1": 1.0}
WINDOWS = ("hamming", "hanning", "povey", "rectangular")
#: What metadata can say of features that are computed here.
COMPUTED = {
    "normalize_samples": tuple(SCALES),
    "feature_normalize_type": ("global-mean",),
    "window_type": WINDOWS,
    "window_size_ms": ("25",),
    "window_stride_ms": ("10",),
    "preemphasis_coefficient": ("0.97",),
    "low_freq": ("20",),
    "high_freq": ("0",),
    "snip_edges": ("1",),
}
# The input of files that say nothing of themselves, as these toolkits name it.
_INPUTS = {"feats": "wespeaker", "feature": "3d-speaker"}


def framework_of(metadata: Mapping[str, str], name: str, axes: int) -> str | None:
    """The toolkit of an ONNX file, by its metadata, or by the name and the axes of its input.

    Example
    -------
    >>> framework_of({}, "feats", 3), framework_of({}, "wav", 2), framework_of({}, "x", 3)
    ('wespeaker', 'waveform', None)
    """
    return "waveform" if axes == 2 else metadata.get("framework") or _INPUTS.get(name)


def other_features(metadata: Mapping[str, str]) -> str | None:
    """What a file says of features that are not computed here; None where there is nothing such.

    Example
    -------
    >>> other_features({"window_type": "povey", "snip_edges": "0"})
    'says snip_edges 0 in its metadata, and features have 1 here'
    """
    for key, known in COMPUTED.items():
        if (told := metadata.get(key, known[0])) not in known:
            return f"says {key} {told} in its metadata, and features have {' or '.join(known)} here"
    return None


def strip_audio_extension(name: str) -> str:
    """Cut a known audio extension off a name; other dots stay.

    Example
    -------
    >>> strip_audio_extension("id1/s.01/00001.WAV"), strip_audio_extension("dr.who/1")
    ('id1/s.01/00001', 'dr.who/1')
    """
    stem, extension = os.path.splitext(name)
    return stem if extension.lower() in AUDIO else name


def preference(name: str) -> int:
    """The place of a file's ending in :data:`AUDIO`.

    Where an utterance lies there in several formats, every command takes the file that can be used
    and comes first by this, whichever of them a list names.

    Example
    -------
    >>> sorted(["1.m4a", "1.mp3", "1.FLAC", "1.wav"], key=preference)
    ['1.wav', '1.FLAC', '1.mp3', '1.m4a']
    """
    return AUDIO.index(os.path.splitext(name)[1].lower())
