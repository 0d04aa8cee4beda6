"""People who arrive in ten steps: what each way to take them up gains, forgets and costs, beside training anew.

Run: python benchmarks/continual.py [LFW_FOLDER] [--kinds people,...] [--joint every|last] [--only METHOD,...]
[--seeds 0,1,2]. LFW_FOLDER holds images/; without it FACETL_LFW_DEV is taken, without either it prints this and
ends. Half of the people are in the first step; each further one brings as many new people (`people`), new photos of
known people (`photos`), or new people in another domain (`grey`, `low-light`; their photos are written to a temporary
folder, and their features take minutes).

Three tenths of the people choose epochs and thresholds; the update's own settings were chosen on them, too. Fifteen
hundredths are strangers, which no step brings. All figures are of these strangers and of held-out photos of people who
arrive. Accuracy is that of telling whether a held-out photo and a photo of the gallery show one person. Everybody who
will ever arrive is in the gallery from the start, so that a column of the matrix changes with the head alone. Seconds
are of learning; cached features and enrolment are common to all. Of the closed form, what the first update learns once
for all is separated. Prints a table, the mean over seeds ± its standard error, and a JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from facetl._tensorflow import start_tensorflow

ALIGNED: dict[str, Any] = {"align": "mtcnn", "crop": 0.5}
METHODS = ("none", "naive", "distillation", "ewc", "replay", "replay+distillation", "joint")
_CHOOSING, _STRANGERS = 0.3, 0.15


@dataclass(frozen=True, eq=False)
class Scene:
    """Photos with their features and roles, and the first step's head.

    Attributes:
        features: of all photos; those of a domain in place of their originals.
        layout: of which maps a feature is made.
        names: who is on each, str [photos].
        choosing, strangers: masks of photos.
        steps: what arrives.
        settings: of the head.
        head: of the first step, and its `front` and `trunk`; `untrained` are its layers at random weights.
        seconds: that training the first step's head took.
    """

    features: Any
    layout: Any
    names: np.ndarray
    choosing: np.ndarray
    strangers: np.ndarray
    steps: Sequence[Any]
    settings: Any
    head: Any
    front: Any
    trunk: Any
    untrained: Any
    seconds: float
    _rows: dict[int, tuple[Any, np.ndarray]] = field(default_factory=dict)

    def embedded(self, front: Any, trunk: Any) -> np.ndarray:
        """Embed all photos; what a front makes of them is kept, of the first one and of the last that was asked for."""
        from facetl.training.head import embed

        kept = self._rows
        if id(front) not in kept:
            for other in [key for key, (one, _) in kept.items() if one is not self.front]:
                del kept[other]
            kept[id(front)] = front, embed(front, self.features)
        return embed(trunk, kept[id(front)][1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=os.environ.get("FACETL_LFW_DEV"))
    parser.add_argument("--kinds", default=",".join(["people"] * 10))
    parser.add_argument("--joint", choices=("every", "last"), default="every")
    parser.add_argument("--only", default=",".join(METHODS))
    parser.add_argument("--seeds", default="0")
    arguments = parser.parse_args()
    if arguments.folder is None:
        print("continual: needs LFW; give its folder or set FACETL_LFW_DEV")
        return
    start_tensorflow()
    results: dict[str, list[dict[str, Any]]] = {method: [] for method in arguments.only.split(",")}
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    for seed in seeds:
        with tempfile.TemporaryDirectory() as room:
            scene = _scene(Path(arguments.folder), arguments.kinds.split(","), seed, Path(room))
            people = [len(np.unique(scene.names[step.photos])) for step in scene.steps]
            print(
                f"seed {seed}: {people} people, {[len(step.probes) for step in scene.steps]} held-out photos; "
                f"the first head took {scene.seconds:.0f} s",
                file=sys.stderr,
            )
            for method, rows in results.items():
                rows.append(_measured(scene, method, arguments.joint == "every", seed))
                print(f"{method}: {rows[-1]}", file=sys.stderr, flush=True)
    _put(results)
    print(json.dumps({"benchmark": "continual", "kinds": arguments.kinds, "seeds": seeds, "results": results}))


def _scene(folder: Path, kinds: list[str], seed: int, room: Path) -> Scene:
    from _streams import stream

    from facetl.backbones.backbone import Backbone
    from facetl.data.manifest import Manifest
    from facetl.data.splits import position
    from facetl.embeddings import dataset
    from facetl.methods.continual.linear_head import front_and_trunk
    from facetl.training.fit import fit_head
    from facetl.training.settings import BALANCED

    collection = dataset.embed(Manifest.from_folder(folder / "images"), Backbone(**ALIGNED))
    names = np.array([photo.identity for photo in collection.manifest.photos])
    at = np.array([position(name, seed=0) for name in names])
    choosing, arriving = at < _CHOOSING, np.flatnonzero(at >= _CHOOSING + _STRANGERS)
    dealt = stream(names[arriving], kinds, seed=seed)
    steps = [replace(step, photos=arriving[step.photos], probes=arriving[step.probes]) for step in dealt]
    features: Any = collection.features
    for number, step in enumerate(steps):
        if step.kind not in ("people", "photos"):
            features, steps[number] = _in_domain(collection, features, step, room / str(number), seed)
    settings = replace(BALANCED, fallback=False, seed=seed)
    began = time.perf_counter()
    fitted = fit_head(
        features.subset(steps[0].photos),
        _labels(names[steps[0].photos]),
        settings,
        validation=(features.subset(np.flatnonzero(choosing)), _labels(names[choosing])),
        layout=collection.layout,
    )
    seconds = time.perf_counter() - began
    front, trunk = front_and_trunk(fitted.head)
    return Scene(
        features=features,
        layout=collection.layout,
        names=names,
        choosing=choosing,
        strangers=(at >= _CHOOSING) & (at < _CHOOSING + _STRANGERS),
        steps=steps,
        settings=settings,
        head=fitted.head,
        front=front,
        trunk=trunk,
        untrained=fitted.untrained,
        seconds=seconds,
    )


def _in_domain(collection: Any, features: Any, step: Any, folder: Path, seed: int) -> tuple[Any, Any]:
    """Return features in which a step's photos are as in its domain, and the step without those that show no face."""
    from _streams import write_changed

    from facetl.backbones.backbone import Backbone
    from facetl.embeddings import dataset
    from facetl.io.arrays import concat_rows

    rows = np.concatenate([step.photos, step.probes])
    written = write_changed(collection.manifest.select(rows), folder, step.kind, seed=seed)
    seen = dataset.embed(written, Backbone.from_spec(collection.spec))
    found = rows[[int(photo.path.stem) for photo in seen.manifest.photos]]
    print(f"{step.kind}: {len(found):,} of {len(rows):,} photos show a face", file=sys.stderr, flush=True)
    chosen = np.arange(features.shape[0])
    chosen[found] = features.shape[0] + np.arange(len(found))
    kept = replace(
        step, photos=step.photos[np.isin(step.photos, found)], probes=step.probes[np.isin(step.probes, found)]
    )
    return concat_rows([features, seen.features]).subset(chosen), kept


def _measured(scene: Scene, method: str, every: bool, seed: int) -> dict[str, Any]:
    """Run through the steps with one method and measure after each."""
    from _streams import AccuracyMatrix

    from facetl.methods.continual.linear_head import front_and_trunk

    verified, found, heads = [], [], []
    for after in _heads(scene, method, every, seed):
        heads.append(after)
        embeddings = scene.embedded(after.front, after.trunk)
        own = [_on_task(scene, embeddings, step) for step in scene.steps]
        verified.append([one[0] for one in own])
        found.append([one[1] for one in own])
    result: dict[str, Any] = {
        "accuracy": float(np.mean(verified[-1])),
        "found": float(np.mean(found[-1])),
        "seconds": float(np.mean([after.seconds for after in heads[1:]])),
        "once": float(sum(after.once for after in heads)),
        "bytes_per_person": heads[-1].bytes_per_person,
        "strangers": _strangers(scene, heads[-1]),
        "verified_at_last": verified[-1],
    }
    if len(verified) == len(scene.steps):
        matrix, ranks = AccuracyMatrix(np.array(verified)), AccuracyMatrix(np.array(found))
        untrained = scene.embedded(*front_and_trunk(scene.untrained))
        baseline = [_on_task(scene, untrained, step)[0] for step in scene.steps]
        result |= {
            "forgetting": matrix.forgetting,
            "backward_transfer": matrix.backward_transfer,
            "forward_transfer": matrix.forward_transfer(baseline),
            "found_forgetting": ranks.forgetting,
            "matrix": matrix.values.tolist(),
        }
    return result


@dataclass(frozen=True, eq=False)
class After:
    """A head after a step, in its parts.

    Attributes:
        seconds: that it took.
        bytes_per_person: that are remembered.
        once: seconds of what served all later steps, too.
    """

    front: Any
    trunk: Any
    seconds: float = 0.0
    bytes_per_person: float = 0.0
    once: float = 0.0


def _heads(scene: Scene, method: str, every: bool, seed: int) -> Iterator[After]:
    """Yield what there is after each step; of training anew, where not every one is asked for, the first and last."""
    from facetl.methods.continual.linear_head import front_and_trunk
    from facetl.methods.continual.update_settings import UpdateSettings

    yield After(scene.front, scene.trunk)
    last = len(scene.steps) - 1
    if method == "none":
        yield from (After(scene.front, scene.trunk) for _ in scene.steps[1:])
    elif method == "joint":
        for step in range(1 if every else last, last + 1):
            head, seconds = _retrained(scene, np.concatenate([one.photos for one in scene.steps[: step + 1]]))
            yield After(*front_and_trunk(head), seconds)
    else:
        update = UpdateSettings(method=method, seed=seed)
        yield from (_solved if update.solved else _fine_tuned)(scene, update)


def _solved(scene: Scene, update: Any) -> Iterator[After]:
    """Yield what there is after each step by the closed form; the first update makes the memory, too."""
    from facetl.methods.continual.linear_head import LinearHead, front_and_trunk
    from facetl.methods.continual.memory import Memory, seen

    anchor, memory = LinearHead.of(scene.head), None
    assert anchor is not None
    for step in scene.steps[1:]:
        began = time.perf_counter()
        if memory is None:
            memory = Memory.learnt(
                scene.features.subset(scene.steps[0].photos),
                scene.names[scene.steps[0].photos],
                others=scene.features.subset(np.flatnonzero(scene.choosing)),
                anchor=anchor,
                layout=scene.layout if scene.settings.regions else None,
                components=scene.settings.components,
                per_person=update.memory,
                seed=scene.settings.seed,
            )
        # Nothing but what is learnt once lies between the two.
        once, began = time.perf_counter() - began, time.perf_counter()
        new = seen(scene.features.subset(step.photos), scene.names[step.photos], basis=memory.basis, anchor=anchor)
        head = memory.relearnt(new, update, seed=scene.settings.seed).model(scene.settings)
        memory = memory.with_people(new, per_person=update.memory)
        seconds = time.perf_counter() - began
        yield After(*front_and_trunk(head), seconds, memory.exemplars.bytes_per_person, once)


def _fine_tuned(scene: Scene, update: Any) -> Iterator[After]:
    """Yield what there is after each step by gradient descent behind the front that there is."""
    from facetl.errors import CollapseError
    from facetl.methods.continual.exemplars import herd_each
    from facetl.methods.continual.new_people import People
    from facetl.methods.continual.strategies import learn
    from facetl.training.head import embed

    if update.method == "naive":
        update = replace(update, epochs=scene.settings.epochs)

    def people(rows: np.ndarray) -> People:
        return People(embed(scene.front, scene.features.subset(rows)), scene.names[rows])

    def herded(some: People, trunk: Any) -> People:
        return some.of(herd_each(embed(trunk, some.rows), some.names, update.memory))

    trunk, validation = scene.trunk, people(np.flatnonzero(scene.choosing))
    memory = herded(people(scene.steps[0].photos), trunk)
    for step in scene.steps[1:]:
        began = time.perf_counter()
        new = people(step.photos)
        try:
            trunk, _ = learn(
                trunk, scene.trunk, new, memory, settings=scene.settings, update=update, validation=validation
            )
        except CollapseError as error:  # the verb refuses such an update, too: the run stays as it was
            print(f"{update.method}: {error}", file=sys.stderr)
        memory = memory.joined(herded(new, trunk))
        seconds = time.perf_counter() - began
        remembered = 0.0 if update.method == "naive" else memory.rows.nbytes / len(np.unique(memory.names))
        yield After(scene.front, trunk, seconds, remembered)


def _retrained(scene: Scene, rows: np.ndarray) -> tuple[Any, float]:
    from facetl.methods.continual.strategies import retrain

    chosen = np.flatnonzero(scene.choosing)
    return retrain(
        scene.features.subset(rows),
        _labels(scene.names[rows]),
        old=scene.head,
        settings=scene.settings,
        validation=(scene.features.subset(chosen), _labels(scene.names[chosen])),
        layout=scene.layout,
    )


def _on_task(scene: Scene, embeddings: np.ndarray, step: Any) -> tuple[float, float]:
    """Return the verification accuracy on a step's held-out photos, and the share of them that is found."""
    from _streams import verified_against_gallery

    from facetl.methods.continual.update_report import found_by_nearest_mean
    from facetl.metrics.verification import threshold_from

    gallery, chosen = np.concatenate([one.photos for one in scene.steps]), np.flatnonzero(scene.choosing)
    threshold = threshold_from(embeddings[chosen], _labels(scene.names[chosen]), seed=0)
    sides = embeddings[step.probes], scene.names[step.probes], embeddings[gallery], scene.names[gallery]
    return verified_against_gallery(*sides, threshold=threshold), found_by_nearest_mean(*sides)


def _strangers(scene: Scene, last: After) -> dict[str, Any]:
    """Return how well pairs of strangers are separated by the first head, the last one, and one against the other."""
    from facetl.methods.continual.update_report import compatibility
    from facetl.metrics.pairs import sample_pairs

    before, after = (
        scene.embedded(front, trunk)[scene.strangers]
        for front, trunk in ((scene.front, scene.trunk), (last.front, last.trunk))
    )
    return compatibility(before, after, sample_pairs(_labels(scene.names[scene.strangers]), seed=0)).to_json()


def _labels(names: np.ndarray) -> np.ndarray:
    return np.unique(names, return_inverse=True)[1]


def _put(results: dict[str, list[dict[str, Any]]]) -> None:
    def mean(values: Sequence[float], digits: str) -> str:
        mean = format(float(np.mean(values)), digits)
        return f"{mean} ± {np.std(values, ddof=1) / len(values) ** 0.5:.4f}" if len(values) > 1 else mean

    names = ("accuracy", "forgetting", "BWT", "FWT", "found", "strangers", "old gallery")
    print(f"{'':22s}" + "".join(f"{name:>18s}" for name in names))
    for method, rows in results.items():
        cells = [mean([row["accuracy"] for row in rows], ".4f")]
        for name in ("forgetting", "backward_transfer", "forward_transfer"):
            cells.append(mean([row[name] for row in rows], "+.4f") if name in rows[0] else "")
        cells.append(mean([row["found"] for row in rows], ".4f"))
        cells += [mean([row["strangers"][name] for row in rows], ".4f") for name in ("new", "cross")]
        print(f"{method:22s}" + "".join(f"{cell:>18s}" for cell in cells))
    joint = results.get("joint")
    names = ("B/person", "s", "s once", *(("accuracy/joint", "s/joint", "all s/joint") if joint else ()))
    print(f"{'':22s}" + "".join(f"{name:>18s}" for name in names))
    for method, rows in results.items():
        cells = [format(float(np.mean([row["bytes_per_person"] for row in rows])), ",.0f")]
        cells += [mean([row[name] for row in rows], ".2f") for name in ("seconds", "once")]
        if joint:
            both = list(zip(rows, joint, strict=True))
            cells.append(mean([own["accuracy"] / other["accuracy"] for own, other in both], ".4f"))
            cells.append(mean([own["seconds"] / other["seconds"] for own, other in both], ".4f"))
            # What is learnt once is spread over the steps.
            steps = len(rows[0]["verified_at_last"]) - 1
            cells.append(
                mean([(own["seconds"] + own["once"] / steps) / other["seconds"] for own, other in both], ".4f")
            )
        print(f"{method:22s}" + "".join(f"{cell:>18s}" for cell in cells))


if __name__ == "__main__":
    main()
