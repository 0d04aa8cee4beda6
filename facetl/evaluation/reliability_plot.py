"""The reliability diagram: what was predicted against what came true."""

from __future__ import annotations

from matplotlib.figure import Figure

from facetl.evaluation.plots import PERCENT, THEME, new_axes, styled
from facetl.evaluation.probability import Reliability


def reliability_plot(reliability: Reliability) -> Figure:
    """Draw how often pairs were of one person against the probability they were given, a point for each bin."""
    with styled():
        figure, axes = new_axes(4.6, 4.4)
        axes.plot([0, 1], [0, 1], color=THEME["grey"], linestyle=":", linewidth=1.0, label="Calibrated")
        axes.plot(
            reliability.predicted,
            reliability.observed,
            color=THEME["accent"],
            marker="o",
            linewidth=1.8,
            label=f"People left out of the fit, ECE {reliability.error:.3f}",
        )
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        axes.set(xlabel="Predicted probability of one person", ylabel="Share of pairs that are of one person")
        axes.xaxis.set_major_formatter(PERCENT)
        axes.yaxis.set_major_formatter(PERCENT)
        axes.legend(loc="upper left", fontsize=9.5)
    return figure
