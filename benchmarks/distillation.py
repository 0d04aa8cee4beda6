"""Distilled students beside their teacher: how right, how large, how long, on people that no net was trained on.

Run: python benchmarks/distillation.py [LFW_FOLDER] [--teacher RUN_FOLDER] [--students mobilenet_v3_small,…]
[--size 112] [--hint-epochs 30] [--epochs 20] [--no-costs]. LFW_FOLDER holds images/; without it FACETL_LFW_DEV is
taken, without either it prints this and ends. The teacher is the default recipe on aligned faces unless a
run's folder is given; its features come from the cache. Students learn from its training people, their epoch is
chosen by its validation people, and all are measured on its test people. Aim: MobileNetV3-Small within 2 points of
the teacher's match accuracy at a tenth of its multiply-accumulates a photo. Prints a table and a JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from facetl._tensorflow import start_tensorflow

if TYPE_CHECKING:
    from facetl.methods.distillation.student_comparison import ComparedModel

POINTS, SHARE = 0.02, 0.1
STUDENTS = "mobilenet_v3_small,mobilenet_v3_large"


def main() -> None:
    """Distil, compare and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=os.environ.get("FACETL_LFW_DEV"))
    parser.add_argument("--teacher", type=Path, help="Folder of a run; without it one is trained.")
    parser.add_argument("--students", default=STUDENTS)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--hint-epochs", type=int, default=30)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--costs", action=argparse.BooleanOptionalAction, default=True)
    arguments = parser.parse_args()
    if arguments.folder is None:
        print("distillation: needs LFW; give its folder or set FACETL_LFW_DEV")
        return
    start_tensorflow()
    from facetl.embeddings.dataset import default_cache_folder
    from facetl.methods.distillation.distillation_settings import DistillationSettings
    from facetl.methods.distillation.distilled_run import distill
    from facetl.methods.distillation.student_comparison import side_by_side, table
    from facetl.methods.distillation.teacher import Teacher

    cache = default_cache_folder()
    with tempfile.TemporaryDirectory() as models:
        run = arguments.teacher or _teacher(Path(arguments.folder) / "images", Path(models), cache, arguments.seed)
        teacher = Teacher.of_run(run, cache=cache)
        runs, seconds = {}, {}
        for name in arguments.students.split(","):
            settings = DistillationSettings(
                student=name,
                size=arguments.size,
                hint_epochs=arguments.hint_epochs,
                epochs=arguments.epochs,
                patience=arguments.epochs,
                seed=arguments.seed,
            )
            runs[name] = Path(models) / name
            report = distill(
                teacher,
                settings,
                runs[name],
                cache=cache,
                notify=_say,
                on_epoch=lambda epoch, logs: _say(f"epoch {epoch + 1}: {logs}"),
            )
            seconds[name] = report.seconds
        compared = side_by_side(
            teacher, runs, cache=cache, teacher_run=run, costs=arguments.costs, seed=arguments.seed, notify=_say
        )
    for row in table(compared):
        print(f"{row[0]:24s}" + "".join(f"{cell:>24s}" for cell in row[1:]))
    goals = _goals(compared)
    for line in goals:
        print(line)
    result = {"benchmark": "distillation", "models": [one.to_json() for one in compared], "seconds": seconds}
    print(json.dumps(result))


def _teacher(images: Path, models: Path, cache: Path, seed: int) -> Path:
    """Train the default recipe on aligned faces."""
    from facetl.backbones.backbone import Backbone
    from facetl.backbones.spec import ExtractorSpec
    from facetl.data.manifest import Manifest
    from facetl.embeddings import dataset
    from facetl.runs.training_run import train_run
    from facetl.training.settings import preset

    spec = ExtractorSpec.of("inception_v3", crop=0.5, align="mtcnn")
    collection = dataset.embed(Manifest.from_folder(images), Backbone.from_spec(spec, on_notice=_say), cache=cache)
    collection = collection.with_splits(seed=seed, validation=0.2, test=0.2)
    train_run(collection, preset("balanced", seed=seed), models / "teacher")
    return models / "teacher"


def _goals(compared: Sequence[ComparedModel]) -> list[str]:
    """Return a line for each student: how near the teacher, at which share of its compute."""
    teacher, *students = compared
    lines = []
    for one in students:
        behind = teacher.match.value - one.match.value
        assert teacher.multiply_accumulates is not None
        assert one.multiply_accumulates is not None
        share = one.multiply_accumulates / teacher.multiply_accumulates
        verdict = "met" if behind <= POINTS and share <= SHARE else "not met"
        lines.append(
            f"{one.name}: {100 * behind:.1f} points of match accuracy behind, {100 * share:.2f} % of the compute; "
            f"aim {100 * POINTS:g} points at {100 * SHARE:g} %: {verdict}"
        )
    return lines


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
