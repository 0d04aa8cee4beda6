"""Figures over a range: an open-set report over its thresholds, k-means over its numbers of clusters."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from facetl.metrics.cluster_scores import Elbow
from facetl.metrics.openset import OpenSetReport
from facetl.report.plots import PERCENT, PLAIN, THEME, new_axes, styled


def openset_sweep_plot(report: OpenSetReport) -> Figure:
    """Accuracy over known people plus "unknown", DIR, misidentification and FPIR over the threshold."""
    lines = {
        "accuracy": ('Accuracy with "unknown"', THEME["accent"], "-", 2.2),
        "dir": ("Known, named rightly (DIR)", THEME["cool"], "-", 1.5),
        "misidentified": ("Known, named wrongly", THEME["grey"], "-", 1.5),
        "fpir": ("Strangers, named (FPIR)", THEME["warm"], (0, (4, 2)), 1.5),
    }
    thresholds = [point.threshold for point in report.sweep]
    with styled():
        figure, axes = new_axes(5.6, 4.2)
        for name, (label, colour, dashes, width) in lines.items():
            rates = [getattr(point, name) for point in report.sweep]
            if None not in rates:  # there are no known people, or no strangers
                axes.plot(thresholds, rates, color=colour, linestyle=dashes, linewidth=width, label=label)
        axes.axvline(report.threshold, color=THEME["ink"], linewidth=1.2, linestyle=(0, (4, 3)))
        axes.annotate(
            f"threshold {report.threshold:.2f}",
            (report.threshold, 1.02),
            xycoords=("data", "axes fraction"),
            ha="center",
            fontsize=9.5,
        )
        axes.set(ylim=(0.0, 1.01), xlabel="Largest squared distance that is believed", ylabel="Share of photos")
        axes.margins(x=0.0)
        axes.yaxis.set_major_formatter(PERCENT)
        figure.legend(loc="outside lower center", ncols=2, fontsize=9.5, columnspacing=2.0)
    return figure


def elbow_plot(elbow: Elbow, *, people: int | None = None) -> Figure:
    """The sum of squares of k-means over k, its bend, and the true number of people where it is known."""
    with styled():
        figure, axes = new_axes(5.6, 4.2)
        axes.plot(elbow.ks, elbow.sse, color=THEME["accent"], linewidth=1.8, marker="o", markersize=4, label="k-means")
        if elbow.elbow is not None:
            bend = elbow.sse[elbow.ks.index(elbow.elbow)]
            axes.plot(
                [elbow.elbow],
                [bend],
                color=THEME["warm"],
                linestyle="none",
                marker="o",
                markersize=10,
                fillstyle="none",
                markeredgewidth=1.8,
                label=f"elbow at {elbow.elbow:,}",
            )
        if people is not None:
            axes.axvline(people, color=THEME["ink"], linewidth=1.2, linestyle=(0, (4, 3)), label=f"{people:,} people")
        axes.set(xlabel="Clusters", ylabel="Sum of squared distances to the nearest centre")
        axes.set_ylim(bottom=0.0)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.yaxis.set_major_formatter(PLAIN)
        axes.legend(loc="upper right", fontsize=9.5)
    return figure
