"""Figures of an evaluation: drawn without a screen, as PNG or as SVG that follows a page's theme.

Every function returns a Figure that no global state knows of. Colours are those of THEME; `figure_svg` turns
them into CSS variables, so that one drawing serves light and dark pages.
"""

from __future__ import annotations

import io
import re
import unicodedata
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from facetl.calibration.probability import Reliability
from facetl.errors import DataError
from facetl.metrics.cluster_scores import Elbow
from facetl.metrics.openset import OpenSetReport
from facetl.metrics.roc import auc, roc_curve
from facetl.report.tables import method_title

# Colours on white; each differs from every other in its digits, which `figure_svg` searches for.
THEME: Mapping[str, str] = {
    "ink": "#1f2430",
    "muted": "#6b7280",
    "rule": "#e3e5ea",
    "accent": "#1d5f8a",
    "warm": "#c2622d",
    "cool": "#5b8c7b",
    "grey": "#9aa1ad",
    "paper": "#fffffe",
}
PEOPLE = ("#1d5f8a", "#c2622d", "#5b8c7b", "#8a5a9e", "#b08a1e", "#c0496b", "#3f8fa8", "#6f7f2a", "#7a5c48", "#4f5fb3")

_LINES: Mapping[str, tuple[str, str | tuple[int, tuple[int, int]]]] = {
    "raw": (THEME["grey"], "-"),
    "whitened": (THEME["grey"], (0, (4, 2))),
    "lda": (THEME["warm"], "-"),
    "untrained": (THEME["cool"], (0, (4, 2))),
    "trained": (THEME["accent"], "-"),
}
_STYLE: Mapping[str, object] = {
    "font.size": 10.5,
    "font.family": "sans-serif",
    "axes.edgecolor": THEME["grey"],
    "axes.labelcolor": THEME["muted"],
    "axes.titlecolor": THEME["ink"],
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": THEME["rule"],
    "grid.linewidth": 0.8,
    "text.color": THEME["ink"],
    "text.parse_math": False,  # a person may be called $alpha
    "xtick.color": THEME["grey"],
    "ytick.color": THEME["grey"],
    "xtick.labelcolor": THEME["muted"],
    "ytick.labelcolor": THEME["muted"],
    "legend.frameon": False,
    "legend.labelcolor": THEME["ink"],
    "figure.constrained_layout.use": True,
    "figure.facecolor": THEME["paper"],
    "axes.facecolor": "none",
    "svg.fonttype": "none",
}
_MARK: Mapping[str, Any] = {"color": THEME["ink"], "linewidth": 1.2, "linestyle": (0, (4, 3))}  # a value on the axis
_UNSEEN = frozenset("_\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_PERCENT = FuncFormatter(lambda value, _: f"{100 * value:g} %")
_PLAIN = FuncFormatter(lambda value, _: f"{value:.6g}")  # no power of ten above the axis


def person_label(name: str, *, limit: int = 40) -> str:
    """Return a person's name as one reads it: no underscores, control or direction characters, shortened."""
    kept = (" " if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") or c in _UNSEEN else c for c in name)
    shown = " ".join("".join(kept).split()) or "?"
    return shown if len(shown) <= limit else shown[: limit - 1].rstrip() + "…"


def roc_plot(curves: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]]) -> Figure:
    """Draw the ROC of each method, false accepts on a logarithmic axis where the differences are.

    curves: name → (distances float [pairs], same bool [pairs]).
    """
    with new_axes(5.6, 4.2) as (figure, axes):
        areas = {name: auc(*curves[name]) for name in curves}
        names = sorted(curves, key=lambda name: -areas[name])
        fewest = max(1, min((int(np.sum(~np.asarray(s, bool))) for _, s in curves.values()), default=1))
        left = min(0.1, max(1e-4, 1.0 / fewest))
        for order, name in enumerate(names):
            curve = roc_curve(*curves[name])
            colour, dashes = _LINES.get(name, (PEOPLE[(order + 3) % len(PEOPLE)], "-"))
            axes.step(
                np.maximum(curve.far, left / 10),  # zero has no logarithm; it lies left of the axis
                curve.tar,
                where="post",
                color=colour,
                linestyle=dashes,
                linewidth=2.2 if name == "trained" else 1.5,
                zorder=3 if name == "trained" else 2,
                label=f"{person_label(method_title(name))}, AUC {areas[name]:.3f}",
            )
        chance = np.geomspace(left, 1.0, 200)
        axes.plot(chance, chance, color=THEME["grey"], linewidth=1.0, linestyle=":", label="Chance")
        axes.set(xscale="log", xlim=(left, 1.0), ylim=(0.0, 1.01))
        axes.set(xlabel="False accept rate", ylabel="True accept rate")
        axes.xaxis.set_major_formatter(_PERCENT)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(_PERCENT)
        figure.legend(loc="outside lower center", ncols=2, fontsize=9.5, columnspacing=2.0)
    return figure


def distance_histogram(positives: npt.ArrayLike, negatives: npt.ArrayLike, threshold: float | None = None) -> Figure:
    """Draw squared distances, float [pairs], of pairs of one person and of two, with the threshold between."""
    positives, negatives = np.asarray(positives, np.float64), np.asarray(negatives, np.float64)
    if not len(positives) or not len(negatives):
        raise DataError(
            f"Histograms need pairs of both kinds. Received: {len(positives)} same, {len(negatives)} different."
        )
    with new_axes(5.6, 4.2) as (figure, axes):
        low = min(positives.min(), negatives.min())
        high = max(positives.max(), negatives.max())
        edges = np.linspace(low, high if high > low else low + 1e-6, 41).tolist()
        for distances, colour, label in (
            (negatives, THEME["warm"], "Different people"),
            (positives, THEME["accent"], "Same person"),
        ):
            share = np.full(len(distances), 1.0 / len(distances))
            axes.hist(distances, edges, weights=share, color=colour, alpha=0.28, linewidth=0)
            axes.hist(distances, edges, weights=share, histtype="step", color=colour, linewidth=1.6, label=label)
        axes.yaxis.set_major_formatter(_PERCENT)
        axes.set(xlabel="Squared distance of the embeddings", ylabel="Share of pairs")
        axes.set_ylim(top=axes.get_ylim()[1] * 1.16)
        if threshold is not None:
            axes.axvline(threshold, **_MARK)
            axes.annotate(
                f"threshold {threshold:.2f}",
                (threshold, 0.985),
                xycoords=("data", "axes fraction"),
                xytext=(5, 0),
                textcoords="offset points",
                va="top",
                fontsize=9.5,
            )
        axes.legend(loc="upper left", fontsize=9.5, reverse=True, handlelength=1.2)
    return figure


def tsne_plot(
    embeddings: npt.ArrayLike,
    labels: npt.ArrayLike,
    names: Sequence[str],
    *,
    seed: int,
    named: int = len(PEOPLE),
    limit: int = 1000,
) -> Figure:
    """Draw embeddings of people, laid out in the plane by t-SNE (van der Maaten and Hinton, 2008).

    embeddings: float [photos, dim]; labels: int [photos], index into names. The `named` people with most
    photos have a colour and their name; at most `limit` photos are laid out, of the people with most first.
    """
    embeddings, labels = np.asarray(embeddings, np.float32), np.asarray(labels, np.int64)
    if len(embeddings) != len(labels) or len(labels) < 3:
        raise DataError(f"t-SNE needs 3 labelled photos. Received: {len(embeddings)}, {len(labels)} labels.")
    counts = np.bincount(labels)
    rank = np.argsort(np.argsort(-counts, kind="stable"), kind="stable")  # of each person, most photos first
    kept = np.sort(np.argsort(rank[labels], kind="stable")[:limit])
    plane, ranks = _laid_out(embeddings[kept], seed), rank[labels[kept]]
    with new_axes(9.2, 5.6) as (figure, axes):
        rest = ranks >= named
        axes.scatter(plane[rest, 0], plane[rest, 1], s=9, color=THEME["grey"], alpha=0.45, linewidths=0)
        for order in range(min(named, int(ranks.max()) + 1)):
            points = plane[ranks == order]
            colour = PEOPLE[order % len(PEOPLE)]
            axes.scatter(points[:, 0], points[:, 1], s=24, color=colour, alpha=0.9, linewidths=0)
            person = labels[kept][ranks == order][0]
            centre = np.median(points, axis=0)
            top = points[np.argmin(np.abs(points - centre).sum(axis=1))]
            axes.annotate(
                person_label(names[person], limit=24),
                (float(top[0]), float(top[1])),
                xytext=(0, 8),
                textcoords="offset points",
                ha="center",
                fontsize=9.5,
                color=colour,
            )
        axes.grid(visible=False)
        axes.set(xticks=[], yticks=[])
        axes.margins(0.06)
        for spine in axes.spines.values():
            spine.set_visible(False)
    return figure


def history_plot(history: pd.DataFrame) -> Figure:
    """Draw a small panel for each logged quantity, its `val_` twin in the same panel.

    history: a row per epoch; a column `epoch`, if there is one, numbers them. Other than numbers is left out.
    """
    numbers = history.select_dtypes("number")
    epochs = numbers["epoch"].to_numpy() if "epoch" in numbers else np.arange(1, len(numbers) + 1)
    columns = [str(c) for c in numbers.columns if c != "epoch" and numbers[c].notna().any()]
    panels = [c for c in columns if not (c.startswith("val_") and c[4:] in columns)]
    if not panels:
        raise DataError(f"Training curves need a column of numbers. Received: {list(history.columns)}.")
    across = min(4, len(panels))
    down = -(-len(panels) // across)
    with styled():
        figure = Figure(figsize=(11.4 * max(across, 2) / 4, 2.5 * down))
        grid = figure.subplots(down, across, squeeze=False)
        for axes, name in zip(grid.flat, panels, strict=False):
            colour = THEME["warm"] if name.startswith("val_") else THEME["accent"]
            marker = "o" if len(epochs) < 3 else None
            axes.plot(epochs, numbers[name], color=colour, linewidth=1.8, marker=marker)
            axes.set_title(_column_title(name))
            if f"val_{name}" in columns:
                axes.plot(epochs, numbers[f"val_{name}"], color=THEME["warm"], linewidth=1.8, marker=marker)
                axes.set_title(_column_title(name) + ": training and validation")
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            axes.yaxis.set_major_locator(MaxNLocator(4))
            axes.yaxis.set_major_formatter(_PLAIN)
        for axes in grid.flat[len(panels) :]:
            axes.set_visible(False)
        for axes in grid[-1]:
            axes.set_xlabel("Epoch")
    return figure


def figure_png(figure: Figure, *, dpi: int = 200) -> bytes:
    """Return the figure as a PNG on white, by default at twice the screen's density."""
    with styled():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def figure_svg(figure: Figure, *, name: str) -> str:
    """Return the figure as an `<svg>` element to set into HTML: transparent, text as text, colours as CSS variables.

    A colour of THEME or PEOPLE becomes `var(--plot-…, #rrggbb)`. `name`, of letters, keeps the identifiers of
    several figures on one page apart.
    """
    with styled(**{"svg.hashsalt": name}):
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<(metadata|style)\b.*?</\1>", "", svg, flags=re.DOTALL)  # its style is a rule for the whole page
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg)  # needless inside HTML, and the only addresses in it
    svg = re.sub(r'(?<= id=")(?=[^"]+")', f"{name}-", svg)
    svg = re.sub(r'(xlink:href="#|url\(#)', rf"\1{name}-", svg).replace("xlink:href", "href")
    svg = re.sub(r'font: [^;"]*?([\d.]+px)[^;"]*', r"font-size: \1", svg)
    svg = re.sub(r'(?<=; )font-family: [^;"]*(; )?', "", svg)  # the page's typeface, not matplotlib's
    variables = {colour: f"--plot-{key}" for key, colour in THEME.items()}
    variables |= {colour: variables.get(colour, f"--plot-person{i}") for i, colour in enumerate(PEOPLE)}
    return re.sub(
        r'(style="[^"<>]*")',
        lambda style: re.sub(
            "#[0-9a-f]{6}\\b",
            lambda c: f"var({variables[c[0]]}, {c[0]})" if c[0] in variables else c[0],
            style[0],
        ),
        svg,
    )


def _laid_out(embeddings: npt.NDArray[np.float32], seed: int) -> npt.NDArray[np.float32]:
    """Return t-SNE coordinates, float32 [photos, 2]; copies of one photo everywhere are left where they are."""
    from sklearn.manifold import TSNE  # slow to import, and only the report draws it

    if float(np.ptp(embeddings, axis=0).max()) == 0.0:
        return np.zeros((len(embeddings), 2), np.float32)
    perplexity = min(30.0, max(1.0, (len(embeddings) - 1) / 3))
    init = "pca" if embeddings.shape[1] >= 2 else "random"
    layout = TSNE(perplexity=perplexity, init=init, random_state=seed).fit_transform(embeddings)
    return np.asarray(layout, np.float32)


@contextmanager
def new_axes(width: float, height: float) -> Iterator[tuple[Figure, Axes]]:
    """Give a figure, its size in inches, and its axes, to be drawn on in the style of all."""
    with styled():
        figure = Figure(figsize=(width, height))
        yield figure, figure.subplots()


def _column_title(name: str) -> str:
    words = person_label(name.removeprefix("val_"))
    words = "AUC" if words == "auc" else words[:1].upper() + words[1:]
    return f"{words} (validation)" if name.startswith("val_") else words


@contextmanager
def styled(**more: object) -> Iterator[None]:
    with matplotlib.rc_context({**_STYLE, **more}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the browser has the letters
        yield


def reliability_plot(reliability: Reliability) -> Figure:
    """Draw how often pairs were of one person against the probability they were given, a point for each bin."""
    with new_axes(4.6, 4.4) as (figure, axes):
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
        axes.xaxis.set_major_formatter(_PERCENT)
        axes.yaxis.set_major_formatter(_PERCENT)
        axes.legend(loc="upper left", fontsize=9.5)
    return figure


def openset_sweep_plot(report: OpenSetReport) -> Figure:
    """Draw accuracy over known people plus "unknown", DIR, misidentification and FPIR over the threshold."""
    lines = {
        "accuracy": ('Accuracy with "unknown"', THEME["accent"], "-", 2.2),
        "dir": ("Known, named rightly (DIR)", THEME["cool"], "-", 1.5),
        "misidentified": ("Known, named wrongly", THEME["grey"], "-", 1.5),
        "fpir": ("Strangers, named (FPIR)", THEME["warm"], (0, (4, 2)), 1.5),
    }
    thresholds = [point.threshold for point in report.sweep]
    with new_axes(5.6, 4.2) as (figure, axes):
        for name, (label, colour, dashes, width) in lines.items():
            rates = [getattr(point, name) for point in report.sweep]
            if None not in rates:  # there are no known people, or no strangers
                axes.plot(thresholds, rates, color=colour, linestyle=dashes, linewidth=width, label=label)
        axes.axvline(report.threshold, **_MARK)
        axes.annotate(
            f"threshold {report.threshold:.2f}",
            (report.threshold, 1.02),
            xycoords=("data", "axes fraction"),
            ha="center",
            fontsize=9.5,
        )
        axes.set(ylim=(0.0, 1.01), xlabel="Largest squared distance that is accepted", ylabel="Share of photos")
        axes.margins(x=0.0)
        axes.yaxis.set_major_formatter(_PERCENT)
        figure.legend(loc="outside lower center", ncols=2, fontsize=9.5, columnspacing=2.0)
    return figure


def elbow_plot(elbow: Elbow, *, people: int | None = None) -> Figure:
    """Draw the sum of squares of k-means over k, its bend, and the true number of people where it is known."""
    with new_axes(5.6, 4.2) as (figure, axes):
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
            axes.axvline(people, **_MARK, label=f"{people:,} people")
        axes.set(xlabel="Clusters", ylabel="Sum of squared distances to the nearest centre")
        axes.set_ylim(bottom=0.0)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.yaxis.set_major_formatter(_PLAIN)
        axes.legend(loc="upper right", fontsize=9.5)
    return figure
