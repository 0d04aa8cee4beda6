"""A run folder is written beside its place, under `.NAME.partial`, and takes it when it is complete."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from facetl.backbones.spec import ExtractorSpec, Weights, spelt_out
from facetl.errors import RunError

CONFIG = "config.json"
HEAD = "head.keras"
NET = "net.keras"
CHECKPOINT = "checkpoint.npz"


def begin(folder: Path, *, resume: bool = False) -> Path:
    """Return the folder, for its owner alone, in which a run is written that will be `folder`.

    Raises RunError where `folder` holds something else than a run, or where there is nothing to resume.
    """
    if folder.exists() and not (folder / CONFIG).is_file() and any(folder.iterdir()):
        raise RunError(f"{folder}: expected a run folder or none, found other files. Choose another --run.")
    partial = folder.with_name(f".{folder.name}.partial")
    if resume and not (partial / CHECKPOINT).is_file():
        raise RunError(f"--resume: no interrupted run of {folder.name} was found. Train without --resume.")
    if not resume and partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(mode=0o700, parents=True, exist_ok=True)
    return partial


def complete(partial: Path, folder: Path) -> None:
    """Put a written run in its place; one of the same name is replaced only now."""
    old = folder.with_name(f".{folder.name}.old")
    if folder.exists():
        if old.exists():
            shutil.rmtree(old)
        os.replace(folder, old)
    os.replace(partial, folder)
    shutil.rmtree(old, ignore_errors=True)


def extractor_record(spec: ExtractorSpec, weights: Weights, dim: int, *, inside: Path | None = None) -> dict[str, Any]:
    """Return what a run's config says of its extractor, whose features have length `dim`.

    inside: the folder that the run is written into; a net that lies in it is named from there, so that the run can be
    moved.
    """
    own = inside is not None and weights.path.parent == inside
    stored = replace(spec, name=weights.path.name) if own else spec
    return {
        "spec": stored.to_json(),
        "weights": {
            "source": weights.source,
            "sha256": weights.sha256,
            "path": weights.path.name if own else str(weights.path.resolve()),
            "description": weights.description,
        },
        "fingerprint": spec.fingerprint(weights.sha256),
        "dim": dim,
    }


def stored_extractor(folder: Path, config: Mapping[str, Any]) -> tuple[ExtractorSpec, Weights]:
    """Return the extractor that a run's config names; a net of the run's own is found in `folder`, wherever that lies.

    Raises KeyError or TypeError for a config without one, FacetlError for one of another version.
    """
    stored = config["extractor"]
    spec, path = ExtractorSpec.from_json(stored["spec"]), Path(stored["weights"]["path"])
    if not path.is_absolute():
        path = folder.absolute() / path
        if spec.family.file_prefix is not None:
            spec = replace(spec, name=spelt_out(spec.name, folder))
    return spec, Weights(stored["weights"]["source"], stored["weights"]["sha256"], path)


def versions() -> dict[str, str]:
    """Return the versions that a run was made with."""
    named = ("tensorflow", "keras", "numpy", "scikit-learn")
    return {"python": platform.python_version(), **{name: version(name) for name in named}}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a run's file, to be read by people, too."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
