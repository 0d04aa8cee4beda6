"""Figures over a range draw the numbers they are given, and no line where there are none."""

from __future__ import annotations

import numpy as np
import pytest

from facetl.metrics.cluster_scores import Elbow
from facetl.metrics.openset import identify_openset
from facetl.report import plots
from facetl.report.sweep_plots import elbow_plot, openset_sweep_plot

EAST, NORTH = [1.0, 0.0], [0.0, 1.0]


def test_sweep_draws_each_rate() -> None:
    report = identify_openset([EAST, NORTH], ["Al", "Bo"], [EAST, EAST, NORTH], ["Al", "Bo", "Xi"], threshold=0.5)
    figure = openset_sweep_plot(report)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    wrong = lines["Known, named wrongly"]
    np.testing.assert_allclose(wrong.get_ydata(), [point.misidentified for point in report.sweep])
    assert wrong.get_ydata()[-1] == 0.5
    assert len(lines) == 5  # four rates and the threshold
    np.testing.assert_allclose(lines['Accuracy with "unknown"'].get_xdata(), [p.threshold for p in report.sweep])
    assert [text.get_text() for text in figure.axes[0].texts] == ["threshold 0.50"]
    svg = plots.figure_svg(figure, name="sweep")
    assert f"var(--plot-accent, {plots.THEME['accent']})" in svg


def test_sweep_without_strangers_has_no_line_for_them() -> None:
    report = identify_openset([EAST, NORTH], ["Al", "Bo"], [EAST], ["Al"], threshold=0.5)
    labels = [line.get_label() for line in openset_sweep_plot(report).axes[0].lines]
    assert "Known, named rightly (DIR)" in labels
    assert not [label for label in labels if "Strangers" in label]
    plots.figure_png(openset_sweep_plot(report), dpi=20)


def test_elbow_marks_the_bend_and_the_truth() -> None:
    axes = elbow_plot(Elbow((1, 3, 9), (10.0, 2.0, 1.0), 3), people=4).axes[0]
    curve, bend, truth = axes.lines
    assert (list(curve.get_xdata()), list(curve.get_ydata())) == ([1, 3, 9], [10.0, 2.0, 1.0])
    assert (list(bend.get_xdata()), list(bend.get_ydata())) == ([3], [2.0])
    assert truth.get_xdata()[0] == 4
    assert [bend.get_label(), truth.get_label()] == ["elbow at 3", "4 people"]


@pytest.mark.parametrize("elbow", [Elbow((1, 2), (2.0, 1.0), None), Elbow((5,), (0.0,), None)])
def test_no_bend_no_mark(elbow: Elbow) -> None:
    figure = elbow_plot(elbow)
    assert len(figure.axes[0].lines) == 1
    plots.figure_png(figure, dpi=20)
