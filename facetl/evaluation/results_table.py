"""The table of results as plain text cells, the same on the screen, in the report and in the model card."""

from __future__ import annotations

from collections.abc import Mapping

from facetl.evaluation.verification import FARS, Verification

METHODS: Mapping[str, str] = {
    "raw": "Raw features",
    "lda": "PCA → LDA",
    "untrained": "Untrained head",
    "trained": "Trained head",
}
MISSING = "–"  # a dash, as tables have it


def method_title(name: str) -> str:
    """What a reader calls a method: the name itself where it has no other."""
    return METHODS.get(name, name)


def results_table(verifications: Mapping[str, Verification]) -> list[list[str]]:
    """A heading row and a row for each method: accuracy ± standard error, AUC, EER, TAR at each FAR."""
    heading = ["Method", "Accuracy", "AUC", "EER", *(f"TAR@FAR {name}" for name in FARS)]
    return [heading, *([method_title(name), *results_cells(v)] for name, v in verifications.items())]


def results_cells(verification: Verification) -> list[str]:
    """Accuracy ± standard error, AUC, EER and TAR at each FAR, with three decimals."""
    rates = [verification.tar_at_far.get(name) for name in FARS]
    return [
        f"{verification.accuracy:.3f} ± {verification.accuracy_stderr:.3f}",
        f"{verification.auc:.3f}",
        f"{verification.eer:.3f}",
        *(MISSING if rate is None else f"{rate:.3f}" for rate in rates),
    ]
