"""Names beside points, each where it covers least."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_DIRECTIONS = [(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)]
_DISTANCES = (8, 16, 28, 44, 64, 90)  # points
_Box = tuple[float, float, float, float]


def place_labels(
    axes: Axes,
    points: Sequence[tuple[float, float]],
    names: Sequence[str],
    colours: Sequence[str],
    size: float = 8.0,
) -> list[_Box]:
    """Write names beside points so that they cover no point and no other name, where there is room.

    Arguments
    ---------
    axes : Axes
        Its limits and scales are final.
    points : sequence of (float, float)
        Where the points are, in the axes' units.
    names, colours : sequence of str
        What is written, and in which colour.
    size : float
        Of the letters, in points.

    Returns
    -------
    list of tuple
        Left, bottom, right, top of every name, in points from the figure's corner.
    """
    figure = axes.figure
    assert isinstance(figure, Figure)
    FigureCanvasAgg(figure).draw()  # settles the layout
    scale = 72 / figure.dpi
    places = axes.transData.transform(np.asarray(points, dtype=float)) * scale
    frame = axes.get_window_extent()
    frame_box = tuple(scale * value for value in (frame.x0, frame.y0, frame.x1, frame.y1))
    taken: list[_Box] = [(x - 4, y - 4, x + 4, y + 4) for x, y in places]
    boxes: list[_Box] = [(0.0, 0.0, 0.0, 0.0)] * len(names)
    for index in sorted(range(len(names)), key=lambda index: -places[index][1]):
        width, height = 0.6 * size * len(names[index]), 1.25 * size
        best, best_cost, shift = boxes[index], math.inf, (0.0, 0.0)
        for distance in _DISTANCES:
            for dx, dy in _DIRECTIONS:
                box = _beside(places[index], dx, dy, distance, width, height)
                cost = sum(_overlap(box, other) for other in taken) + 0.4 * distance
                cost += 10 * (width * height - _overlap(box, frame_box))
                if cost < best_cost:
                    best, best_cost = box, cost
                    shift = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2) - places[index]
        taken.append(best)
        boxes[index] = best
        axes.annotate(
            names[index],
            points[index],
            (float(shift[0]), float(shift[1])),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=size,
            color=colours[index],
            arrowprops={"arrowstyle": "-", "color": "#999999", "lw": 0.6, "shrinkB": 3},
        )
    return boxes


def _beside(
    place: np.ndarray, dx: int, dy: int, distance: float, width: float, height: float
) -> _Box:
    x = place[0] + dx * (distance + width / 2)
    y = place[1] + dy * (distance + height / 2)
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _overlap(one: Sequence[float], other: Sequence[float]) -> float:
    across = min(one[2], other[2]) - max(one[0], other[0])
    along = min(one[3], other[3]) - max(one[1], other[1])
    return max(across, 0.0) * max(along, 0.0)
