"""The report of a run: one self-contained HTML page that needs no network, for the user's own eyes.

It shows photos from the user's disk, so it is written for the owner alone (mode 0600), and a content security
policy in the page itself forbids scripts and any address but the data inside it.
"""

from __future__ import annotations

import base64
import contextlib
import math
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from facetl.calibration.probability import Reliability
from facetl.errors import DataError, RunError
from facetl.metrics.verification import Verification
from facetl.report import plots
from facetl.report.plots import reliability_plot
from facetl.report.report_stylesheet import STYLESHEET
from facetl.report.tables import MISSING, NEEDS, method_title, results_table

_SIGNATURES = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"))
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_NOTABLE = 2.0  # standard errors of a difference below which two methods are not told apart


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
    tables: Mapping[str, Sequence[Sequence[object]]] | None = None,
    main: str = "trained",
    seed: int = 0,
) -> Path:
    """Write the page, complete or not at all, and return its path.

    verifications: method → scores, the table's rows in this order; curves: method → (distances float [pairs],
    same bool [pairs]) for the ROC and, of `main`, the histograms; reliability: of the probabilities; history: a row
    per epoch; settings: nested mappings are flattened; tables: title → rows, the first the heading. What is not given
    is left out. All text is escaped. Raises DataError for a thumbnail that is neither PNG nor JPEG, RunError where the
    page cannot be written.
    """
    if not verifications:
        raise DataError("A report needs the scores of at least one method. Received: none.")
    main = main if main in verifications else list(verifications)[-1]
    sections = [
        _results(verifications, main),
        _training(history),
        _curves(curves or {}, verifications, main),
        _reliability(reliability),
        _people(held_out, seed),
        _mistakes(mistakes, verifications[main]),
        *(_extra_table(name, rows) for name, rows in (tables or {}).items()),
        _settings(settings or {}),
    ]
    page = _page(title, summary(verifications, main=main), "\n".join(s for s in sections if s))
    return _write(Path(path), page)


def summary(verifications: Mapping[str, Verification], *, main: str = "trained") -> str:
    """In plain sentences: how often `main` is right, and whether that beats the best of the others."""
    ours = verifications[main]
    chance = max(ours.positives, ours.pairs - ours.positives) / ours.pairs
    folds = f", in {ours.folds} folds of people" if ours.folds > 1 else ""
    first = (
        f"{method_title(main)}: right on {_percent(ours)} of {ours.pairs:,} pairs of photos, all of people "
        f"it never saw{folds}. Guessing gets {100 * chance:.0f} %."
    )
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


def _results(verifications: Mapping[str, Verification], main: str) -> str:
    heading, *rows = results_table(verifications)
    low = min(0.5, *(v.accuracy - 2 * v.accuracy_stderr for v in verifications.values()))
    low = max(0.0, math.floor(low * 10) / 10)
    body = []
    for name, cells in zip(verifications, rows, strict=True):
        row = "".join(f'<td class="number">{_cell(cell)}</td>' for cell in cells[1:])
        mark = ' class="main"' if name == main else ""
        interval = _interval(verifications[name], low)
        body.append(f'<tr{mark}><th scope="row">{_text(cells[0])}</th><td class="chart">{interval}</td>{row}</tr>')
    head = "".join(f'<th scope="col" class="number">{_head(cell)}</th>' for cell in heading[1:])
    chart = f'<th scope="col" class="chart"><span class="scale"><i>{low:.1f}</i><i>1.0</i></span></th>'
    note = "Accuracy with its standard error over folds; the bar spans two standard errors either way."
    if all(v.folds == 1 for v in verifications.values()):
        note = "Accuracy with the standard error of independent pairs: there are too few people for folds."
    if any(v.negatives_needed for v in verifications.values()):
        fewest = min(v.negatives for v in verifications.values())
        note += (
            " Where a cell needs more negatives, there are too few pairs of different people to see so small a FAR: "
            f"here are {fewest:,}."
        )
    table = (
        '<div class="scroll"><table class="results">'
        f'<thead><tr><th scope="col">{heading[0]}</th>{chart}{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )
    return _section("Verification", table + f'<p class="note">{note}</p>')


def _interval(verification: Verification, low: float) -> str:
    """A dot and a whisker of two standard errors, on a scale from `low` to 1."""
    x = [_place(verification.accuracy + k * verification.accuracy_stderr, low) for k in (-2, 0, 2)]
    half = _place(0.5, low)
    return (
        '<svg class="interval" viewBox="0 0 160 16" aria-hidden="true">'
        '<line class="track" x1="4" x2="156" y1="8" y2="8"/>'
        f'<line class="tick" x1="{half:.1f}" x2="{half:.1f}" y1="4" y2="12"/>'
        f'<line class="whisker" x1="{x[0]:.1f}" x2="{x[2]:.1f}" y1="8" y2="8"/>'
        f'<circle cx="{x[1]:.1f}" cy="8" r="3.6"/></svg>'
    )


def _place(value: float, low: float) -> float:
    return 4.0 + 152.0 * min(1.0, max(0.0, (value - low) / (1.0 - low)))


def _training(history: pd.DataFrame | None) -> str:
    if history is None or not len(history):
        return ""
    drawing = plots.figure_svg(plots.history_plot(history), name="training")
    return _section(
        "Training",
        _figure(drawing, "At the end of each epoch: training in blue, validation in orange.", wide=True),
    )


def _curves(
    curves: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]],
    verifications: Mapping[str, Verification],
    main: str,
) -> str:
    if not curves:
        return ""
    drawn = _figure(
        plots.figure_svg(plots.roc_plot(curves), name="roc"),
        "ROC over all folds' pairs: how many pairs of one person are accepted, for each share of pairs of "
        "different people accepted by mistake.",
    )
    if main in curves:
        distances, same = np.asarray(curves[main][0]), np.asarray(curves[main][1], bool)
        threshold = verifications[main].threshold
        histogram = plots.distance_histogram(distances[same], distances[~same], threshold)
        scores = verifications[main]
        drawn += _figure(
            plots.figure_svg(histogram, name="histogram"),
            f"Distances under {_text(_midsentence(method_title(main)))}. At the threshold, "
            f"{100 * scores.far_at_threshold:.1f} % of pairs of different people are accepted and "
            f"{100 * scores.frr_at_threshold:.1f} % of pairs of one person refused.",
        )
    return _section("Distances", f'<div class="figures">{drawn}</div>')


def _reliability(reliability: Reliability | None) -> str:
    if reliability is None:
        return ""
    caption = (
        "How often pairs were of one person, against the probability they were given: validation people, each left "
        f"out of the fit in turn. Expected calibration error {reliability.error:.3f}."
    )
    drawing = plots.figure_svg(reliability_plot(reliability), name="reliability")
    return _section("Probability", f'<div class="figures">{_figure(drawing, caption)}</div>')


def _people(held_out: HeldOut | None, seed: int) -> str:
    if held_out is None or len(held_out.labels) < 3:
        return ""
    figure = plots.tsne_plot(held_out.embeddings, held_out.labels, held_out.names, seed=seed)
    people = len(np.unique(held_out.labels))
    caption = (
        f"t-SNE of {len(held_out.labels):,} photos of {people:,} people that training never saw, those with "
        "most photos named. Neighbourhoods mean something here; distances between far groups do not."
    )
    return _section("Held-out people", _figure(plots.figure_svg(figure, name="tsne"), caption, wide=True))


def _mistakes(mistakes: Sequence[Mistake], scores: Verification) -> str:
    kinds = (
        (False, "Taken for one person", "Different people, nearer than the threshold."),
        (True, "Not recognised", "The same person, farther than the threshold."),
    )
    groups = []
    for same, heading, meaning in kinds:
        cards = "".join(_card(m) for m in mistakes if bool(m.same) is same)
        if cards:
            groups.append(f'<h3>{heading} <span class="aside">{meaning}</span></h3><div class="cards">{cards}</div>')
    if not groups:
        return ""
    note = f'<p class="note">Farthest on the wrong side of the threshold, {scores.threshold:.2f}.</p>'
    return _section("Hardest mistakes", note + "".join(groups))


def _card(mistake: Mistake) -> str:
    images = "".join(f'<img src="{_data_uri(image)}" alt="">' for image in (mistake.first, mistake.second))
    caption = _text(plots.person_label(mistake.caption, limit=120))
    return (
        f'<figure class="card"><div class="faces">{images}</div><figcaption><bdi>{caption}</bdi>'
        f'<span class="distance">{mistake.distance:.2f}</span></figcaption></figure>'
    )


def _data_uri(image: bytes) -> str:
    for signature, media_type in _SIGNATURES:
        if image.startswith(signature):
            return f"data:{media_type};base64,{base64.b64encode(image).decode('ascii')}"
    raise DataError(f"A thumbnail must be PNG or JPEG. Received: {len(image)} bytes that begin {image[:8]!r}.")


def _extra_table(name: str, rows: Sequence[Sequence[object]]) -> str:
    if not rows:
        return ""
    heading, *body = rows
    head = "".join(f'<th scope="col"{_align(i)}>{_text(cell)}</th>' for i, cell in enumerate(heading))
    lines = ("".join(f"<td{_align(i)}>{_text(cell)}</td>" for i, cell in enumerate(row)) for row in body)
    table = f"<thead><tr>{head}</tr></thead><tbody>{''.join(f'<tr>{line}</tr>' for line in lines)}</tbody>"
    return _section(name, f'<div class="scroll"><table>{table}</table></div>')


def _align(column: int) -> str:
    return ' class="number"' if column else ""


def _settings(settings: Mapping[str, object]) -> str:
    entries = "".join(
        f"<div><dt>{_text(name)}</dt><dd>{_text(value)}</dd></div>" for name, value in _flattened(settings)
    )
    return _section("Settings", f'<dl class="settings">{entries}</dl>') if entries else ""


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


def _section(title: str, body: str) -> str:
    return f"<section><h2>{_text(title)}</h2>{body}</section>"


def _figure(drawing: str, caption: str, *, wide: bool = False) -> str:
    kind = "wide plot" if wide else "plot"
    return f'<figure class="{kind}">{drawing}<figcaption>{caption}</figcaption></figure>'


def _cell(text: str) -> str:
    if text.startswith(f"{NEEDS} "):
        return f'<span class="error">{NEEDS} <span class="under">{_text(text[len(NEEDS) + 1 :])}</span></span>'
    value, sign, error = text.partition(" ± ")
    return f'{_text(value)}<span class="error">{sign}{_text(error)}</span>' if sign else _text(text)


def _head(text: str) -> str:
    first, sign, rate = text.partition("@FAR ")
    return f'{_text(first)}<span class="under">at FAR {_text(rate)}</span>' if sign else _text(text)


def _text(value: object) -> str:
    """Escaped for content and quoted attributes; lone surrogates, as odd file names have, replaced."""
    return escape(str(value).encode("utf-8", "replace").decode("utf-8"), quote=True).replace("\x00", "")


def _percent(verification: Verification) -> str:
    return f"{100 * verification.accuracy:.1f} ± {100 * verification.accuracy_stderr:.1f} %"


def _midsentence(title: str) -> str:
    return "the " + title[:1].lower() + title[1:] if title[1:2].islower() else title


def _page(title: str, lede: str, body: str) -> str:
    colours = {**plots.THEME, **{f"person{i}": colour for i, colour in enumerate(plots.PEOPLE)}}
    light = "".join(f"--plot-{key}:{colour};" for key, colour in colours.items() if key != "paper")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<meta name="color-scheme" content="light dark">
<title>{_text(title)} · facetl</title>
<style>:root{{{light}}}
{STYLESHEET}</style>
</head>
<body>
<main>
<header><p class="eyebrow">facetl report</p><h1>{_text(title)}</h1><p class="lede">{_text(lede)}</p></header>
{body}
<footer>This page may show photos and names of people. It is readable by its owner alone; keep it so.</footer>
</main>
</body>
</html>
"""


def _write(path: Path, page: str) -> Path:
    temporary = path.with_name(f".{path.name[:60]}.{secrets.token_hex(4)}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(page)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise RunError(f"The report could not be written to {path}: {error.strerror or error}.") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return path
