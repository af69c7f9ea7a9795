"""Bytes that are wrong."""

from __future__ import annotations

import numpy as np

Random = np.random.Generator


def damaged(content: bytes, draw: Random) -> bytes:
    """Bytes with some of them cut off, changed, repeated, left out or put in."""
    changed = bytearray(content)
    for _ in range(int(draw.integers(1, 4))):
        at = int(draw.integers(0, max(1, len(changed))))
        size = int(draw.integers(1, 65))
        match int(draw.integers(0, 7)):
            case 0:
                del changed[at:]
            case 1:
                changed[at : at + size] = draw.bytes(size)
            case 2:
                changed[at : at + size] = bytes(size)
            case 3:
                changed[at:at] = changed[max(0, at - size) : at]
            case 4:
                del changed[at : at + size]
            case 5:  # in the header
                changed[at % 64 : at % 64 + 4] = draw.bytes(4)
            case 6:
                changed[at:at] = draw.bytes(size)
    return bytes(changed)
