"""A run folder: the one place that knows its files, reads and writes them.

    config.json         every setting, the extractor, the versions; the threshold of a net as its authors left it
    head.keras          features → unit embeddings; saved_model/ beside it
    calibration.json    the threshold with its evidence, reliability.png beside it; not of a net as its authors left it
    people.json         who was trained on, chosen by and measured on; not in runs made before they were kept
    gallery.npz         who is enrolled; see `facetl.recognition.gallery`
    metrics.json, report.html, MODEL_CARD.md, baselines.npz, untrained.keras, logs/, versions/

A run is written beside its place, under `.NAME.partial`, and moved there when it is complete. `.NAME.lock` beside it
is held while its gallery is changed.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facetl.backbones.spec import ExtractorSpec, Weights, spelt_out
from facetl.data.manifest import Manifest
from facetl.data.splits import SIDES
from facetl.errors import CacheLockedError, RunError, first_line
from facetl.io.files import WriterLock, atomic_folder, beside, remove_partial, write_atomic
from facetl.io.json import parse_json, write_json
from facetl.recognition.gallery_file import GalleryFile

if TYPE_CHECKING:
    import keras

    from facetl.calibration.calibration import Calibrated, Calibration

CONFIG = "config.json"
HEAD = "head.keras"
NET = "net.keras"
SAVED_MODEL = "saved_model"
CALIBRATION = "calibration.json"
RELIABILITY = "reliability.png"
PEOPLE = "people.json"
GALLERY = "gallery.npz"
METRICS = "metrics.json"
MODEL_CARD = "MODEL_CARD.md"
CHECKPOINT = "checkpoint.npz"
LOGS = "logs"

# Side → people.
SplitPeople = Mapping[str, frozenset[str]]
# Side → person → photos, as paths below the folder of the training.
HeldOutPhotos = Mapping[str, Mapping[str, Collection[str]]]


@dataclass(frozen=True)
class RunFolder:
    """A run's folder. What is missing or damaged raises RunError where it is read, with what to do."""

    path: Path

    @property
    def is_run(self) -> bool:
        """Whether the folder holds a run."""
        return os.path.isfile(self.path / CONFIG)  # unlike Path.is_file, deaf to names that are too long

    @property
    def name(self) -> str:
        """The run's name."""
        return self.path.resolve().name

    @classmethod
    @contextmanager
    def new(cls, folder: Path, *, keep: bool = False, resume: bool = False) -> Iterator[RunFolder]:
        """Give the folder, for its owner alone, in which a run is written; it becomes `folder` when the block ends.

        A run of the same name is replaced only then. With `keep` a block that fails leaves what it has written, which
        the next one may `resume`.

        Raises RunError where `folder` holds something else than a run, or where there is nothing to resume.
        """
        if folder.exists() and not cls(folder).is_run and any(folder.iterdir()):
            raise RunError(f"{folder}: expected a run folder or none, found other files. Choose another --run.")
        partial = beside(folder, ".partial")
        if resume and not (partial / CHECKPOINT).is_file():
            raise RunError(f"--resume: no interrupted run of {folder.name} was found. Train without --resume.")
        if not resume and partial.exists():
            shutil.rmtree(partial)
        elif resume:
            # What follows the training is written anew; the checkpoint stays until the run is complete.
            for path in partial.iterdir():
                if path.name not in (CHECKPOINT, LOGS):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
        with atomic_folder(folder, partial=partial, keep=keep, replace=True, mode=0o700):
            yield cls(partial)
            (partial / CHECKPOINT).unlink(missing_ok=True)
            remove_partial(partial)

    def recover(self) -> None:
        """Put a run back whose replacement was cut short between its two renames, and is not under way."""
        old = RunFolder(beside(self.path, ".old"))
        if self.path.exists() or not old.is_run:
            return
        with suppress(RunError), self._lock():
            if not self.path.exists() and old.is_run:
                os.replace(old.path, self.path)

    def config(self) -> dict[str, Any]:
        """Read config.json."""
        try:
            config = parse_json((self.path / CONFIG).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise self._incomplete(error) from error
        if not isinstance(config, dict):
            raise self._incomplete(f"{CONFIG} is no object")
        return config

    def training_config(self) -> dict[str, Any]:
        """Read config.json of a run that was trained on a folder of people; RunError for any other, too."""
        config = self.config()
        if "extractor" in config and "data" not in config:
            raise RunError(
                f"{self.path}: the photos of people whom training held out are needed, and this run was not made from "
                "a folder of people. Take one that facetl train made."
            )
        try:
            # All that is needed further on is read here, so that a damaged file is found at once.
            _ = Path(config["data"]), int(config["settings"]["seed"]), config["extractor"]["weights"]["sha256"]
            _ = [Path(update["data"]) for update in config.get("updates", ())]
            ExtractorSpec.from_json(config["extractor"]["spec"])
        except (ValueError, KeyError, TypeError) as error:
            raise self._incomplete(repr(error)) from error
        return config

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write config.json; a version that shares the old one's bytes by a hard link keeps them."""
        write_json(self.path / CONFIG, config)

    def extractor(self) -> tuple[ExtractorSpec, Weights]:
        """Return the extractor that the config names; a net of the run's own is found wherever the folder lies."""
        try:
            return stored_extractor(self.config(), self.path)
        except (KeyError, TypeError) as error:
            raise self._incomplete(repr(error)) from error

    def head(self) -> keras.Model:
        """Load the head, features [batch, dim] → unit embeddings [batch, width]."""
        return self.model(HEAD)

    def model(self, name: str) -> keras.Model:
        """Load one of the run's models of features, by the name of its file."""
        import keras  # TensorFlow takes seconds to start, and most of a run is read without it

        # It registers the layers that a stored head may hold.
        from facetl.training import layers  # noqa: F401

        try:
            model = keras.models.load_model(self.path / name)
            if not isinstance(model, keras.Model) or len(model.output_shape) != 2:
                raise ValueError(f"{name} is no model of features")
        except Exception as error:  # on damaged files Keras and HDF5 raise whatever they meet
            raise self._incomplete(first_line(error)) from error
        return model

    def write_head(self, head: keras.Model) -> None:
        """Write head.keras, for the run's owner alone."""
        head.save(self.path / HEAD)
        (self.path / HEAD).chmod(0o600)

    def head_digest(self) -> str:
        """Return the hex digest of head and extractor, by which the run's embeddings differ from any other run's."""
        config = self.config()
        try:
            digest = hashlib.sha256(str(config["extractor"]["fingerprint"]).encode())
            digest.update((self.path / HEAD).read_bytes())
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise self._incomplete(error) from error
        return digest.hexdigest()

    def compatible_heads(self) -> frozenset[str]:
        """Return the digests of other heads whose galleries this run's head answers for."""
        try:
            return frozenset(map(str, self.config().get("compatible_heads", ())))
        except TypeError as error:
            raise self._incomplete(error) from error

    def published_threshold(self) -> float | None:
        """Return the threshold of a net as its authors left it; None for a run that has a calibration instead."""
        threshold = self.config().get("threshold")
        try:
            return None if threshold is None else float(threshold)
        except (ValueError, TypeError) as error:
            raise self._incomplete(error) from error

    def calibration(self) -> Calibration:
        """Read the calibration."""
        from facetl.calibration.calibration import Calibration  # SciPy takes a second to import

        path = self.path / CALIBRATION
        try:
            content = parse_json(path.read_bytes())
        except (OSError, ValueError) as error:
            raise RunError(f"{path}: expected the run's calibration ({error}). Run facetl calibrate.") from error
        return Calibration.from_json(content, name=str(path))

    def write_calibration(self, calibrated: Calibrated) -> None:
        """Write a calibration and its reliability diagram; a diagram that no longer belongs to it is deleted."""
        if calibrated.reliability is None:
            (self.path / RELIABILITY).unlink(missing_ok=True)
        else:
            from facetl.report.plots import figure_png, reliability_plot  # Matplotlib takes a second to import

            write_atomic(self.path / RELIABILITY, figure_png(reliability_plot(calibrated.reliability)))
        write_json(self.path / CALIBRATION, calibrated.calibration.to_json())

    def people(self) -> SplitPeople | None:
        """Read side → people, NFC-normalised as in a manifest; None for a run made before they were kept."""
        path = self.path / PEOPLE
        try:
            sides = parse_json(path.read_text(encoding="utf-8"))
            return {side: frozenset(map(str, sides[side])) for side in SIDES}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{path}: expected the people of {', '.join(SIDES)} ({error}). Train again.") from error

    def people_of(self, what: str) -> SplitPeople:
        """Read side → people; RunError, naming `what` is missing, for a run made before they were kept."""
        people = self.people()
        if people is None:
            raise RunError(
                f"{self.path}: the run does not say {what} (it was made before that was kept). Train it again."
            )
        return people

    def held_out_photos(self) -> HeldOutPhotos | None:
        """Read side → person → photos where photos of the same people were held out; None where people were."""
        try:
            stored = parse_json((self.path / PEOPLE).read_text(encoding="utf-8")).get("photos")
            if stored is None:
                return None
            return {
                side: {person: frozenset(map(str, paths)) for person, paths in stored[side].items()}
                for side in ("validation", "test")
            }
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunError(f"{self.path / PEOPLE}: expected held-out photos ({error}). Train again.") from error

    def on_sides(self, manifest: Manifest) -> Manifest:
        """Put photos on the sides they had in training: "" for people, "train" for photos, that it does not know.

        Raises RunError for a run that does not say who its people are.
        """
        people, held_out = self.people_of("who was held out"), self.held_out_photos()
        side_of = {person: side for side in SIDES for person in people[side]}
        if held_out is not None:
            side_of = dict.fromkeys(people["train"], "train")
        photos = []
        for photo, path in zip(manifest.photos, manifest.relative_paths, strict=True):
            side = side_of.get(photo.identity, "")
            for one, of_people in (held_out or {}).items():
                side = one if path in of_people.get(photo.identity, ()) else side
            photos.append(replace(photo, split=side))
        return replace(manifest, photos=tuple(photos))

    def write_people(self, people: Mapping[str, Iterable[str]], photos: HeldOutPhotos | None = None) -> None:
        """Write side → people, for the run's owner alone; a side that is not given has nobody.

        photos: those that were held out, where people were not.
        """
        content: dict[str, object] = {side: sorted(people.get(side, ())) for side in SIDES}
        if photos is not None:
            content["photos"] = {
                side: {person: sorted(paths) for person, paths in sorted(own.items())} for side, own in photos.items()
            }
        write_json(self.path / PEOPLE, content)

    def write_sides(self, manifest: Manifest) -> None:
        """Write who, and of few people which photos, training held out."""
        held_out: dict[str, dict[str, list[str]]] = {"validation": {}, "test": {}}
        for photo, path in zip(manifest.photos, manifest.relative_paths, strict=True):
            if photo.split in held_out:
                held_out[photo.split].setdefault(photo.identity, []).append(path)
        people = {side: manifest.subset(side).identities for side in SIDES}
        self.write_people(people, held_out if manifest.same_people else None)

    def gallery(self) -> GalleryFile:
        """Read who is enrolled, nobody at first; RunError for a gallery that this run's head does not answer for."""
        head, found = self.head_digest(), self.stored_gallery()
        if found is None:
            return GalleryFile.empty(head)
        if found.head != head and found.head not in self.compatible_heads():
            raise RunError(
                f"{self.path / GALLERY}: a gallery belongs to the head that made it, this run has another one. Delete "
                "the file and run facetl enroll again."
            )
        return found

    def stored_gallery(self) -> GalleryFile | None:
        """Read the gallery whatever head made it, None where there is none."""
        return GalleryFile.read(self.path / GALLERY)

    def write_gallery(self, gallery: GalleryFile) -> None:
        """Write who is enrolled; nobody is no file."""
        gallery.write(self.path / GALLERY)

    @contextmanager
    def changing_gallery(self, *, head: str | None = None) -> Iterator[None]:
        """Keep other processes from changing the gallery, or exchanging the head, meanwhile; RunError where one does.

        head: digest of the head that made what is enrolled; RunError where the run has one by now that cannot be
        compared with it.
        """
        with self._lock():
            if head is not None and head not in {self.head_digest(), *self.compatible_heads()}:
                raise RunError(
                    f"{self.path}: the run was changed by another process meanwhile. Nobody was enrolled; try again."
                )
            yield

    @contextmanager
    def _lock(self) -> Iterator[None]:
        # Beside the folder, which an update renames meanwhile: Windows renames none that a file is open in.
        lock = WriterLock(beside(self.path.resolve(), ".lock"))
        try:
            lock.acquire()
        except CacheLockedError as error:
            raise RunError(
                f"{self.path / GALLERY}: one process at a time may change a gallery, another one does now. Wait until "
                "it ends."
            ) from error
        try:
            yield
        finally:
            lock.release()

    def _incomplete(self, why: object) -> RunError:
        return RunError(f"{self.path}: expected a complete run folder ({why}). Run facetl train.")


def extractor_record(spec: ExtractorSpec, weights: Weights, dim: int, *, inside: Path | None = None) -> dict[str, Any]:
    """Return what a run's config holds of its extractor, whose features have length `dim`.

    inside: the folder that the run is written into; a net that lies in it is named from there, so that the run can be
    moved.
    """
    own = inside is not None and weights.path.absolute().parent == inside.absolute()
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


def stored_extractor(config: Mapping[str, Any], folder: Path) -> tuple[ExtractorSpec, Weights]:
    """Return the extractor of a config; a net of the run's own is found below `folder`, wherever that lies.

    Raises KeyError or TypeError for a config without one, FacetlError for one of another version.
    """
    stored = config["extractor"]
    spec, path = ExtractorSpec.from_json(stored["spec"]), Path(stored["weights"]["path"])
    weights = Weights(stored["weights"]["source"], stored["weights"]["sha256"], path)
    if path.is_absolute():
        return spec, weights
    if spec.family.file_prefix is not None:
        spec = replace(spec, name=spelt_out(spec.name, folder))
    return spec, replace(weights, path=folder.absolute() / path)


def versions() -> dict[str, str]:
    """Return the versions that a run was made with."""
    named = ("tensorflow", "keras", "numpy", "scikit-learn")
    return {"python": platform.python_version(), **{name: version(name) for name in named}}
