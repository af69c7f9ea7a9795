"""Frames of MPEG audio, layers I to III, counted: what a file holds, whatever its header says."""

from __future__ import annotations

import functools
import io
from typing import NamedTuple

# Kilobits per second by (whether MPEG 1, layer); the first stands for "free", the last is no rate.
_BITRATES = {
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448, 0),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 0),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256, 0),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0),
}
_BITRATES[False, 3] = _BITRATES[False, 2]
# Samples per second by the version's two bits: MPEG 2.5, none, MPEG 2, MPEG 1.
_RATES = ((11025, 12000, 8000, 0), (0, 0, 0, 0), (22050, 24000, 16000, 0), (44100, 48000, 32000, 0))


class MpegFrames(NamedTuple):
    """The frames of a file.

    Arguments
    ---------
    sound : bytes
        From the first frame that is sound to the end of the last.
    number : int
        Whole frames of sound.
    samples : int
        What they decode to, of each channel.
    stated : int or None
        How many the header (Xing or Info) says there are; None without one.
    cut : bool
        Whether the file ends within a frame.
    mixed : bool
        Whether frames of another kind follow, which decoders leave out.
    """

    sound: bytes
    number: int
    samples: int
    stated: int | None
    cut: bool
    mixed: bool


class _Frame(NamedTuple):
    size: int  # bytes
    samples: int
    kind: tuple[int, int, bool]  # version and layer, sample rate, mono: the same in a whole stream


def count_frames(data: bytes) -> MpegFrames:
    """Walk through the frames of a whole file; tags before, between and after them are no sound.

    Arguments
    ---------
    data : bytes
        The file.

    Returns
    -------
    MpegFrames
        Of number 0 when it has no frames, or such as do not tell their size.

    Example
    -------
    >>> frame = bytes([0xFF, 0xFB, 0x90, 0xC0]) + bytes(413)  # 128 kbit/s, 44,100 Hz
    >>> count_frames(3 * frame + frame[:99])[1:]
    (3, 3456, None, True, False)
    """
    at = _next_frame(data, _after_tag(data), None)
    if at is None:
        return MpegFrames(b"", 0, 0, None, False, False)
    first = _frame(data[at : at + 4])
    assert first is not None
    stated = _stated(data, at)
    start = at = at if stated is None else at + first.size
    end, count, cut = start, 0, False
    while at is not None and at < len(data):
        frame = _frame(data[at : at + 4])
        if frame is None or frame.kind != first.kind:
            at = _next_frame(data, at + 1, first.kind)
            continue
        if at + frame.size > len(data):
            cut = True
            break
        count += 1
        end = at = at + frame.size
    mixed = at is None and _next_frame(data, end, None) is not None
    return MpegFrames(data[start:end], count, count * first.samples, stated, cut, mixed)


class Unending(io.BytesIO):
    """Bytes that do not tell how many they are, so that a decoder reads them to their end.

    Told the size, libmpg123 divides it by the first frame's to say how many frames there are, and
    libsndfile gives no more than that.

    Example
    -------
    >>> stream = Unending(b"abc")
    >>> stream.seek(0, 2) > 3, stream.seek(1), stream.readinto(bytearray(9))
    (True, 1, 2)
    """

    _END = 2**50
    _beyond = 0  # the place near that end, if it is there

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to a place, or near an end that is very far away."""
        self._beyond = self._END + offset if whence == io.SEEK_END else 0
        return self._beyond or super().seek(offset, whence)

    def tell(self) -> int:
        """The place."""
        return self._beyond or super().tell()

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        """Read bytes; near that end they are zeros, which are no tag."""
        if not self._beyond:
            return super().readinto(buffer)
        buffer[:] = bytes(len(buffer))
        return len(buffer)


def _after_tag(data: bytes) -> int:
    """Where the sound can begin: after an ID3v2 tag, whose size has seven bits in a byte."""
    if not data.startswith(b"ID3") or len(data) < 10:
        return 0
    size = functools.reduce(lambda total, byte: total << 7 | byte & 0x7F, data[6:10], 0)
    return 10 + size + (10 if data[5] & 0x10 else 0)


def _next_frame(data: bytes, at: int, kind: tuple[int, int, bool] | None) -> int | None:
    """The next place that holds a frame and after it another, or the end."""
    while (at := data.find(b"\xff", at)) >= 0:
        frame = _frame(data[at : at + 4])
        if frame is not None and kind in (None, frame.kind):
            after = at + frame.size
            following = _frame(data[after : after + 4])
            if after == len(data) or (following is not None and following.kind == frame.kind):
                return at
        at += 1
    return None


def _stated(data: bytes, at: int) -> int | None:
    """The number of frames that the first one says there are, in place of sound."""
    for name in (b"Xing", b"Info"):
        tag = data.find(name, at, at + 44)
        if tag >= 0 and data[tag + 7] & 1:
            return int.from_bytes(data[tag + 8 : tag + 12], "big")
    return None


@functools.lru_cache(maxsize=1024)
def _frame(header: bytes) -> _Frame | None:
    if len(header) < 4 or header[0] != 0xFF or header[1] < 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    rate = _RATES[version][header[2] >> 2 & 3]
    if not rate or layer == 4:
        return None
    bitrate = 1000 * _BITRATES[version == 3, layer][header[2] >> 4]
    if not bitrate:
        return None
    padding = header[2] >> 1 & 1
    kind = header[1] & 0xFE, header[2] & 0x0C, header[3] >> 6 == 3
    if layer == 1:
        return _Frame(4 * (12 * bitrate // rate + padding), 384, kind)
    samples = 576 if layer == 3 and version != 3 else 1152
    return _Frame(samples // 8 * bitrate // rate + padding, samples, kind)
