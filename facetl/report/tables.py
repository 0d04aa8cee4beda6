"""The table of results as plain text cells, the same on the screen, in the report and in the model card."""

from __future__ import annotations

from collections.abc import Mapping

from facetl.metrics.verification import FARS, Verification

METHODS: Mapping[str, str] = {
    "raw": "Raw features",
    "whitened": "PCA-whitened",
    "lda": "PCA → LDA",
    "untrained": "Untrained head",
    "trained": "Trained head",
}
MISSING = "–"  # a dash, as tables have it
NEEDS = "needs"  # how a cell begins that says what it would take to tell


def method_title(name: str) -> str:
    """Return what a reader calls a method: the name itself where it has no other."""
    return METHODS.get(name, name)


def results_table(verifications: Mapping[str, Verification]) -> list[list[str]]:
    """Return a heading row and a row for each method: accuracy ± standard error, AUC, EER, TAR at each FAR."""
    heading = ["Method", "Accuracy", "AUC", "EER", *(f"TAR@FAR {name}" for name in FARS)]
    return [heading, *([method_title(name), *_cells(v)] for name, v in verifications.items())]


def _cells(verification: Verification) -> list[str]:
    """Return the cells of a method, numbers with three decimals.

    A TAR of which too few pairs tell nothing shows how many pairs of different people it takes: "needs 10,000 neg.".
    """
    return [
        f"{verification.accuracy:.3f} ± {verification.accuracy_stderr:.3f}",
        f"{verification.auc:.3f}",
        f"{verification.eer:.3f}",
        *(_rate_cell(verification, name) for name in FARS),
    ]


def _rate_cell(verification: Verification, far: str) -> str:
    rate = verification.tar_at_far.get(far)
    if rate is not None:
        return f"{rate:.3f}"
    needed = verification.negatives_needed.get(far)
    return MISSING if needed is None else f"{NEEDS} {needed:,} neg."
