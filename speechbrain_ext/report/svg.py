"""Matplotlib figures as SVG elements of a page: themed by its CSS, with ids that do not collide."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure

SPEAKER_COLOURS = 10
# Figures are drawn in these colours and nothing else; each becomes the CSS variable of its name, so
# that a figure follows the page into dark mode.
_NAMES = ["ink", "muted", "rule", "teacher", "student", "fusion", "warning"]
_NAMES += [f"speaker-{i}" for i in range(SPEAKER_COLOURS)]
COLOURS = {name: f"#0101{i + 1:02x}" for i, name in enumerate(_NAMES)}

# One SVG unit is one CSS pixel when the figure is shown at its own size.
WIDTH = 360
FONT_SIZE = 16
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": FONT_SIZE,
    "text.parse_math": False,
    "text.color": COLOURS["ink"],
    "axes.edgecolor": COLOURS["muted"],
    "axes.labelcolor": COLOURS["ink"],
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.linewidth": 1.0,
    "figure.facecolor": "none",
    "grid.color": COLOURS["rule"],
    "grid.linewidth": 1.0,
    "xtick.color": COLOURS["muted"],
    "ytick.color": COLOURS["muted"],
    "xtick.labelcolor": COLOURS["ink"],
    "ytick.labelcolor": COLOURS["ink"],
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "xtick.major.pad": 6,
    "ytick.major.pad": 6,
    "lines.linewidth": 2.25,
    "lines.solid_capstyle": "round",
}


def new_figure(height: int) -> Figure:
    """Make an empty figure ``WIDTH`` wide and ``height`` high, in SVG units (1/72 inch)."""
    return Figure(figsize=(WIDTH / 72, height / 72), layout="constrained")


def to_svg(figure: Figure, name: str, label: str) -> Markup:
    """Turn a figure into one ``<svg>`` element.

    Arguments
    ---------
    figure : matplotlib.figure.Figure
        Drawn under :data:`STYLE`, in :data:`COLOURS`.
    name : str
        Unlike that of any other figure of the page; every id begins with it.
    label : str
        What the figure shows, for those who cannot see it.

    Returns
    -------
    markupsafe.Markup
        The element, without metadata, date, fixed size or namespaces, the same for the same figure.
    """
    buffer = io.BytesIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    root = ET.fromstring(buffer.getvalue())
    _clean(root, name)
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": label}
    return Markup(ET.tostring(root, encoding="unicode", short_empty_elements=True))


def _clean(element: ET.Element, name: str) -> None:
    element.tag = _local(element.tag)
    element.attrib = {_local(k): _attribute(_local(k), v, name) for k, v in element.attrib.items()}
    for child in list(element):
        if _local(child.tag) in ("metadata", "style"):
            element.remove(child)
        else:
            _clean(child, name)
    if element.tag != "text" and element.text and not element.text.strip():
        element.text = None
    element.tail = None


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _attribute(key: str, value: str, name: str) -> str:
    if key == "id":
        return f"{name}-{value}"
    if key == "href":
        return re.sub(r"^#", f"#{name}-", value)
    value = re.sub(r"url\(#", f"url(#{name}-", value)
    if key == "style":
        # The page sets the typeface; the size belongs to the figure.
        value = re.sub(r"font: ([\d.]+)px [^;]*", r"font-size: \1px", value)
        for variable, colour in COLOURS.items():
            value = value.replace(colour, f"var(--{variable})")
    return value
