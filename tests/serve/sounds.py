"""Recordings for a service without a model of speech, and one that is far longer than its file."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import soundfile


def tone(hertz: float, seconds: float = 1.0, rate: int = 16000, **written: Any) -> bytes:
    """A file of a tone with two overtones."""
    at = np.arange(int(seconds * rate)) / rate
    sound = sum(0.2 * np.sin(2 * np.pi * hertz * k * at) for k in (1, 2, 3))
    file = io.BytesIO()
    soundfile.write(file, sound, rate, **{"format": "WAV", **written})
    return file.getvalue()


def opus_silence(seconds: int) -> bytes:
    """Silence as Ogg Opus: packets of one byte, each 60 ms, 255 to a page."""
    packets = round(seconds / 0.06)
    head = b"OpusHead" + struct.pack("<BBHIhB", 1, 1, 0, 48000, 0, 0)
    pages = [_page(0, 2, 0, [head]), _page(1, 0, 0, [b"OpusTags" + struct.pack("<II", 0, 0)])]
    for first in range(0, packets, 255):
        last = min(first + 255, packets)
        ends = 4 if last == packets else 0
        pages.append(_page(len(pages), ends, 2880 * last, [b"\x18"] * (last - first)))
    return b"".join(pages)


def _page(number: int, flags: int, position: int, packets: list[bytes]) -> bytes:
    """A page of Ogg that holds whole packets."""
    head = struct.pack("<4sBBqIIIB", b"OggS", 0, flags, position, 1, number, 0, len(packets))
    page = bytearray(head + bytes(map(len, packets)) + b"".join(packets))
    page[22:26] = struct.pack("<I", _checksum(page))
    return bytes(page)


def _checksum(page: bytes | bytearray) -> int:
    value = 0
    for byte in page:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1) ^ (0x104C11DB7 if value & 0x80000000 else 0)
    return value
