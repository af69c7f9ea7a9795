"""Names of points, in a column beside the axes, each with a line to its point."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes


def place_labels(
    axes: Axes,
    points: Sequence[tuple[float, float]],
    names: Sequence[str],
    colours: Sequence[str],
    size: float = 8.0,
) -> list[float]:
    """Write the names of points to the right of the axes, in the order of their height.

    Names beside the points themselves would cover one another where systems are much alike.

    Arguments
    ---------
    axes : Axes
        Its limits and scales are final; the vertical scale is linear.
    points : sequence of (float, float)
        Where the points are, in the axes' units.
    names, colours : sequence of str
        What is written, and in which colour.
    size : float
        Of the letters, in points.

    Returns
    -------
    list of float
        The height of every name, as a share of the axes'.
    """
    low, high = axes.get_ylim()
    wanted = [(y - low) / (high - low) for _, y in points]
    heights = spread(wanted, least=1 / max(len(points), 44))
    for point, height, name, colour in zip(points, heights, names, colours, strict=True):
        axes.annotate(
            name,
            point,
            (1.03, height),
            textcoords="axes fraction",
            va="center",
            fontsize=size,
            color=colour,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "alpha": 0.35,
                "linewidth": 0.6,
                "relpos": (0.0, 0.5),
                "shrinkA": 0,
                "shrinkB": 2,
            },
        )
    return heights


def spread(wanted: Sequence[float], least: float) -> list[float]:
    """Heights in [0, 1] in the order of those wanted, near them, at least so far apart.

    Example
    -------
    >>> [round(height, 2) for height in spread([0.5, 0.5, 0.1, 1.0], least=0.2)]
    [0.5, 0.7, 0.1, 1.0]
    """
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    heights = list(wanted)
    for before, index in zip(order, order[1:], strict=False):
        heights[index] = max(heights[index], heights[before] + least)
    ceiling = 1.0
    for index in reversed(order):
        heights[index] = min(heights[index], ceiling)
        ceiling = heights[index] - least
    return heights
