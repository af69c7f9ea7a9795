"""DET curves and histograms."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from speechbrain_ext.verification.metrics import ErrorRates
from speechbrain_ext.verification.plots import DetCurve, det_plot, histogram_plot, save_figure


def _curve(name: str, gap: float) -> DetCurve:
    rng = np.random.default_rng(6)
    labels = rng.random(5000) < 0.3
    rates = ErrorRates.from_scores(rng.standard_normal(5000) + gap * labels, labels)
    return DetCurve(name, *rates.curve(), eer=rates.equal_error_rate()[0])


def test_det_shows_every_system_by_name_and_rate() -> None:
    """The legend tells the figures, the title the corpus."""
    curves = [_curve("teacher", 3.0), _curve("v2", 2.0)]
    figure = det_plot(curves, "Test speakers", "Mini corpus (synthetic)")
    axes = figure.axes[0]
    legend = axes.get_legend()
    assert legend is not None
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts == [f"{c.name}: EER {100 * c.eer:.2f} %" for c in curves]
    assert axes.get_title(loc="left") == "Test speakers"
    assert "Mini corpus (synthetic)" in [text.get_text() for text in axes.texts]
    # Normal scores give a straight line of slope -1 on these axes.
    drawn = np.asarray(axes.get_lines()[1].get_xydata())[30:-30]
    assert np.polyfit(drawn[:, 0], drawn[:, 1], 1)[0] == pytest.approx(-1.0, abs=0.1)


@pytest.mark.parametrize(
    ("false_alarm", "miss", "eer"),
    [([0.0], [0.0], 0.0), ([0.9, 0.5], [0.95, 0.99], 0.92), ([1.0, 0.0], [0.0, 1.0], 0.5)],
)
def test_extreme_systems_can_be_drawn(
    false_alarm: list[float], miss: list[float], eer: float, tmp_path: Path
) -> None:
    """Perfect, hopeless and one-point systems neither fail nor warn."""
    save_figure(det_plot([DetCurve("x", false_alarm, miss, eer)], "t"), tmp_path / "det")


def test_no_curve_is_refused() -> None:
    """Nothing to draw is a mistake of the caller."""
    with pytest.raises(ValueError, match="at least one"):
        det_plot([], "title")


def test_files_are_pictures_and_repeatable(tmp_path: Path) -> None:
    """PNG and SVG are written, whatever dots the name has, and twice the same."""
    contents = []
    for folder in ("a", "b"):
        figure = histogram_plot([0.0, 0.5, 1.0], [1, 9], [0, 0], "Test", "Mini", threshold=0.4)
        files = save_figure(figure, tmp_path / folder / "vox1.o_scores")
        assert [path.name for path in files] == ["vox1.o_scores.png", "vox1.o_scores.svg"]
        contents.append([path.read_bytes() for path in files])
    assert contents[0][0].startswith(b"\x89PNG")
    assert ElementTree.fromstring(contents[0][1]).tag.endswith("svg")
    assert contents[0] == contents[1]
