"""The model card of a run, with its section on the calibration, and beside it the HTML report and the projector."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from sklearn.decomposition import PCA

from facetl.backbones.spec import ExtractorSpec
from facetl.calibration.calibration import Calibrated, Calibration, Rate
from facetl.calibration.identification import Identification
from facetl.calibration.probability import Platt
from facetl.embeddings.dataset import Collection
from facetl.images.decode import read_photo
from facetl.io.files import write_atomic
from facetl.io.text import printable
from facetl.metrics.bootstrap import Interval
from facetl.metrics.verification import hardest_mistakes
from facetl.recognition.run_folder import MODEL_CARD
from facetl.report.html import HeldOut, Mistake, write_report
from facetl.report.tables import results_table
from facetl.runs.pair_evaluation import SplitEvaluation
from facetl.training.fit import FittedHead
from facetl.training.tensorboard import write_projector

THUMBNAIL = 64
_PORTRAIT = 128
# The projector and the t-SNE stay quick with this many photos of held-out people.
_MOST_PHOTOS = 2000
_NOT_OF_FACES = "The extractor was never trained on faces: expect far less than from a face-trained net."
_OF_FACES = "The extractor was trained on faces by others; whom it serves well or badly follows from theirs."
_HEAD_ONLY = (
    "`saved_model/` has the signature `head` alone, features → embeddings: this extractor is not made of TensorFlow "
    "operations. From photos, use facetl."
)
_WIDEST = 512
_ORIGIN_UNKNOWN = "What the extractor was trained on is not recorded: its weights came from a file."
_HEADING = "## Calibration"
_SECTION = re.compile(rf"^{_HEADING}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_BEFORE = re.compile(r"^## Data\n", re.MULTILINE)


@dataclass(frozen=True)
class CardText:
    """The text of a model card on how a run was made.

    Attributes:
        what: items of the list "What it is".
        limits: sentences on whom or what it may serve badly.
    """

    what: Sequence[str]
    limits: Sequence[str]


def write_documents(
    folder: Path,
    name: str,
    collection: Collection,
    evaluation: SplitEvaluation,
    config: Mapping[str, Any],
    calibrated: Calibrated,
    *,
    history: pd.DataFrame,
    card: CardText,
) -> None:
    """Write the report, the model card and the projector of a run into its folder."""
    manifest = collection.manifest.subset("test")
    shown = np.arange(min(len(manifest), _MOST_PHOTOS))
    people = list(manifest.identities)
    write_report(
        folder / "report.html",
        title=name,
        verifications=evaluation.verifications,
        curves={
            method: (values, evaluation.pairs.same)
            for method, values in evaluation.distances.items()
            if evaluation.pairs is not None
        },
        reliability=calibrated.reliability,
        held_out=HeldOut(evaluation.embeddings[shown], manifest.labels[shown], people),
        mistakes=_mistakes(evaluation, manifest.paths, [photo.identity for photo in manifest.photos]),
        history=history,
        settings={"extractor": config["extractor"]["spec"], "training": config["settings"]},
        seen=collection.manifest.same_people,
        rank_1=evaluation.rank_1.get("trained"),
    )
    # A net that was trained elsewhere comes without logs.
    (folder / "logs").mkdir(exist_ok=True)
    if len(shown):
        write_projector(
            folder / "logs",
            _narrowed(evaluation.embeddings[shown]),
            [manifest.photos[row].identity for row in shown],
            [thumbnail(manifest.paths[row], THUMBNAIL) for row in shown],
        )
    text = _model_card(name, collection, evaluation, config, calibrated.calibration, card)
    (folder / MODEL_CARD).write_text(text, encoding="utf-8")


def card_of_head(collection: Collection, fitted: FittedHead, config: Mapping[str, Any]) -> CardText:
    """Return the card's text of a frozen net with a trained head."""
    spec = collection.spec
    taps = " + ".join(tap if grid == 1 else f"{tap} {grid}×{grid}" for tap, grid in spec.taps)
    what = [
        f"Extractor: {spec.name}, tap {taps}, on {seen_of_photos(spec)}.",
        f"Weights: {collection.weights.description}.",
        f"Head: {_head(fitted, config)}",
    ]
    origin = {"file": _ORIGIN_UNKNOWN, "dlib": _OF_FACES}.get(collection.weights.source, _NOT_OF_FACES)
    return CardText(what, [origin, *([] if spec.family.in_tensorflow else [_HEAD_ONLY])])


def seen_of_photos(spec: ExtractorSpec) -> str:
    """Return what an extractor sees of a photo, as a phrase."""
    crop = "the whole photo" if spec.crops == (1,) else f"the central square, {spec.crop_text} of the shorter side"
    if spec.align != "none":
        crop += ", of faces found and aligned by mtcnn"
    if spec.grey:
        crop += ", in grey"
    return crop + (", averaged with its mirror image" if spec.mirror else "")


def update_calibration(folder: Path, calibration: Calibration) -> None:
    """Put a new calibration into a run folder's model card; a card that is gone stays gone."""
    path = folder / MODEL_CARD
    if path.is_file():
        card = put_calibration_into(path.read_text(encoding="utf-8"), calibration)
        write_atomic(path, card.encode())


def thumbnail(path: Path, side: int) -> np.ndarray:
    """Return a photo's centre square as [side, side, 3] uint8 RGB."""
    image = read_photo(path)
    square = min(image.shape[:2])
    top, left = ((length - square) // 2 for length in image.shape[:2])
    return cv2.resize(image[top : top + square, left : left + square], (side, side), interpolation=cv2.INTER_AREA)


def _mistakes(evaluation: SplitEvaluation, paths: tuple[Path, ...], names: list[str]) -> list[Mistake]:
    pairs, mistakes = evaluation.pairs, list[Mistake]()
    if pairs is None:
        return mistakes
    distances = evaluation.distances["trained"]
    for pair in hardest_mistakes(distances, pairs.same, threshold=evaluation.threshold):
        first, second = int(pairs.first[pair]), int(pairs.second[pair])
        caption = names[first] if pairs.same[pair] else f"{names[first]} · {names[second]}"
        mistakes.append(
            Mistake(
                _jpeg(paths[first]),
                _jpeg(paths[second]),
                float(distances[pair]),
                bool(pairs.same[pair]),
                caption,
            )
        )
    return mistakes


def _jpeg(path: Path) -> bytes:
    _, encoded = cv2.imencode(".jpg", thumbnail(path, _PORTRAIT)[:, :, ::-1])
    return bytes(encoded.tobytes())


def _model_card(
    name: str,
    collection: Collection,
    evaluation: SplitEvaluation,
    config: Mapping[str, Any],
    calibration: Calibration,
    card: CardText,
) -> str:
    sides = {side: collection.manifest.subset(side) for side in ("train", "validation", "test")}
    split = [
        f"- {side}: {len(manifest.identities):,} people, {len(manifest):,} photos" for side, manifest in sides.items()
    ]
    lines = [
        f"# {name}",
        "",
        f"A face embedding: photo → {evaluation.embeddings.shape[1]} numbers of unit length; two photos show one "
        "person when their squared distance is at most the threshold of the calibration below.",
        "",
        "## What it is",
        "",
        *(f"- {item}" for item in card.what),
        f"- Made by facetl {config['facetl']}, seed {config['settings']['seed']}; all settings in config.json.",
        "",
        "## How good it is",
        "",
        *_results(evaluation, collection.manifest.held_out),
        "",
        *calibration_section(calibration),
        "## Data",
        "",
        *split,
        "",
        "## Limits",
        "",
        *card.limits,
        "The figures hold for people and photos like those above. Do not use it to grant access or to decide about "
        "people.",
        "",
    ]
    # A run's name may be no UTF-8.
    return "\n".join(map(printable, lines))


def _results(evaluation: SplitEvaluation, held_out: Mapping[str, str | None]) -> list[str]:
    """Return how good the run is on what was held out, and of what that was."""
    if not evaluation.verifications:
        return ["Not measured: there were too few people, and photos of each, to hold any out for it."]
    rows, trained = results_table(evaluation.verifications), evaluation.verifications["trained"]
    if held_out["test"] == "photos":
        what = (
            f"Verification on {trained.pairs:,} pairs of held-out photos of the training's own people, in "
            f"{trained.folds} folds of people: there were too few people to hold some out. **On people whom training "
            "has not seen it may do far worse; these figures cannot tell.** Thresholds are from other held-out photos "
            f"of the same people. Rank-1: {evaluation.rank_1['trained']:.3f} of the photos have the right "
            "person nearest."
        )
    else:
        what = (
            f"Verification on {trained.pairs:,} pairs of test people, whom neither training nor any choice has "
            f"seen, in {trained.folds} folds of people; thresholds from the validation people."
        )
    return [
        what,
        "",
        _table_row(rows[0]),
        _table_row(["---"] * len(rows[0])),
        *(_table_row(row) for row in rows[1:]),
        "",
        f"At the threshold of highest accuracy, {evaluation.threshold:.4f}: FAR {trained.far_at_threshold:.3f}, "
        f"FRR {trained.frr_at_threshold:.3f}.",
    ]


def _head(fitted: FittedHead, config: Mapping[str, Any]) -> str:
    """Return what the head is and how it was chosen."""
    widths, loss = " → ".join(map(str, config["settings"]["widths"])), config["settings"]["loss"]
    trained = (
        f"{widths}, {loss} loss, best of {len(fitted.history)} epochs: {fitted.best_epoch}"
        + (", the start" if fitted.best_epoch == 0 else "")
        + ", by AUC on the validation side."
    )
    if fitted.choice is None:
        return trained
    if fitted.choice.fallback:
        why = f"A trained one ({trained[:-1]}) was not better: {fitted.choice.evidence}."
        return f"none, the features themselves at unit length. {why}"
    return f"{trained} {fitted.choice.evidence}."


def _narrowed(embeddings: np.ndarray) -> np.ndarray:
    """Return embeddings that a browser can hold: wide ones turned and cut to their principal components."""
    if embeddings.shape[1] <= _WIDEST:
        return embeddings
    return np.asarray(PCA(min(_WIDEST, len(embeddings)), random_state=0).fit_transform(embeddings), np.float32)


def _table_row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def calibration_section(calibration: Calibration) -> list[str]:
    """Return the section on the calibration, the one part of the card that may change after training."""
    of_people = calibration.people * (calibration.people - 1) // 2
    return [
        _HEADING,
        "",
        f"On {calibration.people:,} {'people of the training' if calibration.seen else 'validation people'} with "
        f"{calibration.photos:,} {'held-out ' if calibration.seen else ''}photos: {calibration.positives:,} "
        f"pairs of one person, {calibration.negatives:,} of different people, who make {of_people:,} pairs of people. "
        + (
            "On people whom training has not seen, rates and threshold are others."
            if calibration.seen
            else "Intervals (95%) say where a rate will be found on as many other people."
        ),
        "",
        f"- Threshold {calibration.threshold:.4f}{_ends(calibration.threshold_interval, 4)}: "
        f"{calibration.reached_by}{_found(calibration.interval)}.",
        f"- At the threshold: FAR {_rate(calibration.far)}, FRR {_rate(calibration.frr)}.",
        f"- Probability of one person: {_probability(calibration)}.",
        f"- Naming faces: {_naming(calibration.identification)}.",
        "",
    ]


def put_calibration_into(card: str, calibration: Calibration) -> str:
    """Return a model card with this calibration in place of its own; a card without one gets it before the data."""
    section = "\n".join(calibration_section(calibration)) + "\n"
    if _SECTION.search(card):
        return _SECTION.sub(lambda _: section, card, count=1)
    before = _BEFORE.search(card)
    at = before.start() if before else len(card)
    return f"{card[:at]}{section}{card[at:]}"


def _rate(rate: Rate) -> str:
    return f"{rate.value:.4f}{_ends(rate.interval, 4)}"


def _ends(interval: Interval | None, digits: int) -> str:
    return "" if interval is None else f" [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"


def _found(interval: Interval | None) -> str:
    return "" if interval is None else f"; on other people in {_ends(interval, 4).strip()}"


def _probability(calibration: Calibration) -> str:
    method = "logistic (Platt)" if isinstance(calibration.same_person, Platt) else "isotonic regression"
    error = (
        "too few people to measure its error"
        if calibration.ece is None
        else f"expected calibration error {calibration.ece:.3f} on people left out of the fit"
    )
    return f"{method}, prior {calibration.prior:g}, {error}"


def _naming(identification: Identification | None) -> str:
    if identification is None:
        return "too few people to simulate it"
    thresholds = "personal thresholds around" if identification.method == "personal" else "at most"
    return (
        f"distance to a person's centroid {thresholds} {identification.threshold:.4f}, the second person farther by "
        f"{identification.margin:.4f}; with {identification.enrolled:,} people enrolled that named "
        f"{identification.fpir:.1%} of strangers (FPIR) and {identification.dir:.1%} of known faces rightly (DIR)"
    )
