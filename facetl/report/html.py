"""The report of a run: one self-contained HTML page that needs no network, for the user's own eyes.

It shows photos from the user's disk, so it is written for the owner alone (mode 0600), and a content security
policy in the page itself forbids scripts and any address but the data inside it.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure

from facetl.calibration.probability import Reliability
from facetl.errors import DataError, RunError
from facetl.io.files import write_atomic
from facetl.io.text import printable
from facetl.metrics.verification import Verification
from facetl.report import plots
from facetl.report.tables import MISSING, NEEDS, method_title, results_table

_SIGNATURES = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"))
_TEMPLATES = Path(__file__).parent / "templates"
_NOT_MEASURED = "Not measured: there were too few people, and photos of each, to hold any out for it."
_NOTABLE = 2.0  # standard errors of a difference below which two methods count as equal


@dataclass(frozen=True)
class Mistake:
    """A pair judged wrongly: thumbnails (PNG or JPEG bytes), squared distance, what is true, who it is."""

    first: bytes
    second: bytes
    distance: float
    same: bool
    caption: str


@dataclass(frozen=True)
class HeldOut:
    """Embeddings of held-out people: float [photos, dim], int labels [photos] that index names."""

    embeddings: npt.NDArray[np.floating]
    labels: npt.NDArray[np.integer]
    names: Sequence[str]


def write_report(
    path: Path | str,
    *,
    title: str,
    verifications: Mapping[str, Verification],
    curves: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]] | None = None,
    reliability: Reliability | None = None,
    held_out: HeldOut | None = None,
    mistakes: Sequence[Mistake] = (),
    history: pd.DataFrame | None = None,
    settings: Mapping[str, object] | None = None,
    seen: bool = False,
    rank_1: float | None = None,
) -> Path:
    """Write the page, complete or not at all, and return its path.

    verifications: method → scores, the table's rows in this order; none where nothing was measured; curves: method →
    (distances float [pairs], same bool [pairs]) for the ROC and, of the trained head (else the last method), the
    histograms; reliability: of
    the probabilities; history: a row per epoch; settings: nested mappings are flattened; seen: whether other photos of
    the same people were trained on, and rank_1 then the share of photos whose nearest person is the right one. What is
    not given is left out. All text is escaped. Raises DataError for a thumbnail that is neither PNG nor JPEG, RunError
    where the page cannot be written.
    """
    main = "trained" if "trained" in verifications or not verifications else list(verifications)[-1]
    fields = {
        "title": title,
        "lede": summary(verifications, main=main, seen=seen, rank_1=rank_1) if verifications else _NOT_MEASURED,
        "seen": seen,
        "scores": verifications.get(main),
        "main_title": _midsentence(method_title(main)),
        "results": _results(verifications, main) if verifications else None,
        "mistakes": mistakes,
        "settings": _flattened(settings or {}),
        **_drawings(verifications, main, curves or {}, reliability, held_out, history),
    }
    path = Path(path)
    page = _environment().get_template("report.html").render(fields)
    try:
        write_atomic(path, page.encode())
    except OSError as error:
        raise RunError(f"The report could not be written to {path}: {error.strerror or error}.") from error
    return path


def summary(
    verifications: Mapping[str, Verification], *, main: str = "trained", seen: bool = False, rank_1: float | None = None
) -> str:
    """Return, in plain sentences, how often `main` is right, and whether that beats the best of the others.

    seen, rank_1: see `write_report`.
    """
    ours = verifications[main]
    chance = max(ours.positives, ours.pairs - ours.positives) / ours.pairs
    folds = f", in {ours.folds} folds of people" if ours.folds > 1 else ""
    first = (
        f"{method_title(main)}: right on {_percent(ours)} of {ours.pairs:,} pairs of photos, all of "
        f"{'people that training saw on other photos' if seen else 'people it never saw'}{folds}. Guessing gets "
        f"{100 * chance:.0f} %."
    )
    if rank_1 is not None:
        first += f" The right person is the nearest for {100 * rank_1:.1f} % of the photos."
    if seen:
        first += " On other people it may do far worse; too few are at hand to tell."
    others = {name: v for name, v in verifications.items() if name != main}
    if not others:
        return first
    rival = max(others, key=lambda name: others[name].accuracy)
    difference = ours.accuracy - others[rival].accuracy
    error = math.hypot(ours.accuracy_stderr, others[rival].accuracy_stderr)
    if abs(difference) <= _NOTABLE * error or difference == 0.0:
        verdict = "no difference beyond two standard errors"
    else:
        verdict = f"{100 * abs(difference):.1f} points {'less' if difference > 0 else 'more'}"
    return f"{first} The best of the others, {method_title(rival)}, gets {_percent(others[rival])}: {verdict}."


def _results(verifications: Mapping[str, Verification], main: str) -> dict[str, object]:
    """Return what the table of results shows; `low` is where the scale of its intervals begins."""
    heading, *rows = results_table(verifications)
    low = min(0.5, *(v.accuracy - 2 * v.accuracy_stderr for v in verifications.values()))
    low = max(0.0, math.floor(low * 10) / 10)
    short = any(v.negatives_needed for v in verifications.values())
    return {
        "heading": heading,
        "low": low,
        "rows": [
            {"cells": cells, "main": name == main, "interval": _interval(verification, low)}
            for (name, verification), cells in zip(verifications.items(), rows, strict=True)
        ],
        "folded": any(v.folds != 1 for v in verifications.values()),
        "fewest_negatives": min(v.negatives for v in verifications.values()) if short else None,
    }


def _interval(verification: Verification, low: float) -> dict[str, str]:
    """Return the places of an accuracy, two standard errors either way and one half on a scale from `low` to 1."""
    accuracy, error = verification.accuracy, verification.accuracy_stderr
    marks = {"low": accuracy - 2 * error, "middle": accuracy, "high": accuracy + 2 * error, "half": 0.5}
    return {
        name: f"{4.0 + 152.0 * min(1.0, max(0.0, (value - low) / (1.0 - low))):.1f}" for name, value in marks.items()
    }


def _drawings(
    verifications: Mapping[str, Verification],
    main: str,
    curves: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]],
    reliability: Reliability | None,
    held_out: HeldOut | None,
    history: pd.DataFrame | None,
) -> dict[str, object]:
    """Return the page's figures as SVG, None for what was not given, and the numbers under them."""
    figures: dict[str, Figure] = {}
    numbers: dict[str, object] = {}
    if history is not None and len(history):
        figures["training"] = plots.history_plot(history)
    if curves:
        figures["roc"] = plots.roc_plot(curves)
    if main in curves:
        distances, same = np.asarray(curves[main][0]), np.asarray(curves[main][1], bool)
        threshold = verifications[main].threshold
        figures["histogram"] = plots.distance_histogram(distances[same], distances[~same], threshold)
    if reliability is not None:
        figures["reliability"] = plots.reliability_plot(reliability)
        numbers["calibration_error"] = reliability.error
    if held_out is not None and len(held_out.labels) >= 3:
        figures["tsne"] = plots.tsne_plot(held_out.embeddings, held_out.labels, held_out.names, seed=0)
        numbers |= {"photos": len(held_out.labels), "people": len(np.unique(held_out.labels))}
    names = ("training", "roc", "histogram", "reliability", "tsne")
    return numbers | {name: plots.figure_svg(figures[name], name=name) if name in figures else None for name in names}


def _flattened(settings: Mapping[str, object], prefix: str = "") -> list[tuple[str, str]]:
    flat: list[tuple[str, str]] = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat += _flattened(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple):
            flat.append((f"{prefix}{name}", ", ".join(str(v) for v in value) or MISSING))
        else:
            flat.append((f"{prefix}{name}", MISSING if value is None or value == "" else str(value)))
    return flat


def _data_uri(image: bytes) -> str:
    for signature, media_type in _SIGNATURES:
        if image.startswith(signature):
            return f"data:{media_type};base64,{base64.b64encode(image).decode('ascii')}"
    raise DataError(f"A thumbnail must be PNG or JPEG. Received: {len(image)} bytes that begin {image[:8]!r}.")


def _percent(verification: Verification) -> str:
    return f"{100 * verification.accuracy:.1f} ± {100 * verification.accuracy_stderr:.1f} %"


def _midsentence(title: str) -> str:
    return "the " + title[:1].lower() + title[1:] if title[1:2].islower() else title


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        undefined=StrictUndefined,
        autoescape=True,
        finalize=lambda value: value if hasattr(value, "__html__") else printable(value),
    )
    environment.filters |= {"data_uri": _data_uri, "label": plots.person_label}
    colours = {**plots.THEME, **{f"person{number}": colour for number, colour in enumerate(plots.PEOPLE)}}
    del colours["paper"]
    environment.globals |= {"colours": colours, "needs": NEEDS}
    return environment
