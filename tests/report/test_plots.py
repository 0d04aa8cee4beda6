"""Figures show what they are given, and stand names that nobody should have."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pandas as pd
import pytest

from facetl.errors import DataError
from facetl.metrics.cluster_scores import Elbow
from facetl.metrics.openset import identify_openset
from facetl.report import plots
from facetl.report.plots import elbow_plot, openset_sweep_plot

DISTANCES = np.array([0.2, 0.4, 0.9, 0.6, 1.0, 1.4, 1.8])
EAST, NORTH = [1.0, 0.0], [0.0, 1.0]
SAME = np.array([True, True, True, False, False, False, False])


def test_roc_plot_draws_the_curve():
    axes = plots.roc_plot({"trained": (DISTANCES, SAME), "raw": (DISTANCES[::-1], SAME)}).axes[0]
    line = next(line for line in axes.lines if "AUC 0.917" in line.get_label())  # 11 of 12 couples
    assert line.get_label().startswith("Trained head")
    np.testing.assert_allclose(line.get_ydata(), np.array([0, 1, 2, 2, 3, 3, 3, 3]) / 3)
    np.testing.assert_allclose(line.get_xdata()[3:], np.array([1, 1, 2, 3, 4]) / 4)


def test_histograms_are_shares_with_the_threshold_between():
    axes = plots.distance_histogram(DISTANCES[SAME], DISTANCES[~SAME], 0.75).axes[0]
    bars = [container for container in axes.containers if len(container) == 40]
    assert [sum(bar.get_height() for bar in bars_of) for bars_of in bars] == pytest.approx([1.0, 1.0])
    assert axes.lines[0].get_xdata()[0] == 0.75
    assert axes.texts[0].get_text() == "threshold 0.75"


def test_histograms_need_both_kinds_but_not_different_values():
    plots.figure_png(plots.distance_histogram([0.5], [0.5]), dpi=20)
    with pytest.raises(DataError, match="0 same, 2 different"):
        plots.distance_histogram([], [0.1, 0.2])


def test_tsne_names_the_people_with_most_photos():
    rng = np.random.default_rng(0)
    labels = np.repeat([4, 0, 2], [3, 9, 6])
    figure = plots.tsne_plot(rng.standard_normal((18, 8)), labels, ["Al", "-", "Bo_B", "-", "Cy"], seed=0, named=2)
    assert [text.get_text() for text in figure.axes[0].texts] == ["Al", "Bo B"]
    assert [len(c.get_offsets()) for c in figure.axes[0].collections] == [3, 9, 6]


def test_tsne_limit_keeps_the_people_with_most_photos():
    rng = np.random.default_rng(0)
    labels = np.repeat([1, 0, 2], [3, 9, 6])
    figure = plots.tsne_plot(rng.standard_normal((18, 8)), labels, "abc", seed=0, limit=15)
    assert [text.get_text() for text in figure.axes[0].texts] == ["a", "c"]


@pytest.mark.parametrize("rows", [np.ones((5, 4)), np.eye(3), np.arange(4.0)[:, None]])
def test_tsne_stands_degenerate_embeddings(rows):
    plots.tsne_plot(rows, np.zeros(len(rows), int), ["Al"], seed=0)
    with pytest.raises(DataError, match="3 labelled photos"):
        plots.tsne_plot(rows[:2], [0, 0], ["Al"], seed=0)


def test_history_pairs_training_with_validation():
    history = pd.DataFrame(
        {
            "epoch": [1, 2],
            "loss": [0.2, 0.1],
            "val_loss": [0.3, 0.2],
            "val_accuracy": [0.6, np.nan],
            "note": ["a", "b"],
        }
    )
    axes = [a for a in plots.history_plot(history).axes if a.get_visible()]
    assert [a.get_title(loc="left") for a in axes] == [
        "Loss: training and validation",
        "Accuracy (validation)",
    ]
    assert [len(a.lines) for a in axes] == [2, 1]
    with pytest.raises(DataError, match="column of numbers"):
        plots.history_plot(history[["note"]])


HOSTILE = [
    "<script>alert(1)</script>",
    "$\\frac{$",
    "a\x00b\x1b[31m",
    "\udcff.jpg",
    "\u202egnp.exe",
    "",
    "山田",
    "é" * 300,
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_can_be_drawn(name):
    rows = np.random.default_rng(0).standard_normal((4, 3))
    svg = plots.figure_svg(plots.tsne_plot(rows, [0, 0, 0, 0], [name], seed=0), name="tsne")
    svg.encode("utf-8")
    assert "<script" not in svg
    root = ElementTree.fromstring(svg)
    assert [t.text for t in root.iter("text")] == [plots.person_label(name, limit=24)]


def test_person_label():
    assert plots.person_label("Anna_Maria") == "Anna Maria"
    assert plots.person_label("a\n\tb\u202e c") == "a b c"
    assert plots.person_label("x" * 50, limit=10) == "x" * 9 + "…"
    assert plots.person_label("\x00") == "?"


def test_svg_follows_the_page():
    svg = plots.figure_svg(plots.roc_plot({"trained": (DISTANCES, SAME)}), name="roc")
    assert "http" not in svg
    assert "<style" not in svg
    assert "mathdefault" not in svg
    assert "font-family" not in svg
    assert f"var(--plot-accent, {plots.THEME['accent']})" in svg
    assert not re.search(r"(?<!, )#[0-9a-f]{6}", svg), "a colour that no theme can change"
    ids = re.findall(r' id="([^"]*)"', svg)
    assert all(i.startswith("roc-") for i in ids)
    assert {u for pair in re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', svg) for u in pair if u} <= set(ids)


def test_figures_repeat_and_leave_no_global_state():
    import matplotlib

    before = dict(matplotlib.rcParams)
    one, two = (plots.figure_svg(plots.roc_plot({"raw": (DISTANCES, SAME)}), name="x") for _ in range(2))
    assert one == two
    assert dict(matplotlib.rcParams) == before


def test_png_is_a_png():
    assert plots.figure_png(plots.roc_plot({"raw": (DISTANCES, SAME)}), dpi=30).startswith(b"\x89PNG")


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
