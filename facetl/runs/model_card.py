"""The model card's section on the calibration, the one part of the card that may change after training."""

from __future__ import annotations

import re

from facetl.calibration.calibration import Calibration, Rate
from facetl.calibration.identification import Identification
from facetl.calibration.probability import Platt
from facetl.metrics.bootstrap import Interval

_HEADING = "## Calibration"
_SECTION = re.compile(rf"^{_HEADING}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_BEFORE = re.compile(r"^## Data\n", re.MULTILINE)


def lines(calibration: Calibration) -> list[str]:
    """Return the section, ending in an empty line."""
    of_people = calibration.people * (calibration.people - 1) // 2
    return [
        _HEADING,
        "",
        f"On {calibration.people:,} validation people with {calibration.photos:,} photos: {calibration.positives:,} "
        f"pairs of one person, {calibration.negatives:,} of different people, who make {of_people:,} pairs of people. "
        "Intervals (95%) say where a rate will be found on as many other people.",
        "",
        f"- Threshold {calibration.threshold:.4f}{_ends(calibration.threshold_interval, 4)}: "
        f"{calibration.target.reached_by}{_found(calibration.interval)}.",
        f"- At the threshold: FAR {_rate(calibration.far)}, FRR {_rate(calibration.frr)}.",
        f"- Probability of one person: {_probability(calibration)}.",
        f"- Naming faces: {_naming(calibration.identification)}.",
        "",
    ]


def put_into(card: str, calibration: Calibration) -> str:
    """Return a model card with this calibration in place of its own; a card without one gets it before the data."""
    section = "\n".join(lines(calibration)) + "\n"
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
