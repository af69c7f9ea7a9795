"""What audio is called and how it is heard, apart from what reads it: without PyTorch."""

from __future__ import annotations

import os

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
