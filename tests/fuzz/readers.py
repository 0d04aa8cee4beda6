"""Every reader of files that others may have made, with valid samples of what it reads."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import sqlite3
import tarfile
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mutation import Mutate, mutated, mutated_json, mutated_photo, mutated_sqlite, mutated_zip
from sparse_copy import copy_with_holes


@dataclass(frozen=True)
class Reader:
    """A reader and its files.

    Attributes:
        name: for reports.
        share: of all inputs, in parts of the sum of all shares.
        samples: makes, in an empty room, valid files as bytes, and whatever else the reader needs there.
        read: reads one file's bytes as the program would, with the room as its place.
        mutate: how a sample is changed.
        room: bytes of memory that reading one file may take.
        heavy: whether it starts TensorFlow or another runtime.
    """

    name: str
    share: float
    samples: Callable[[Path], Sequence[bytes]]
    read: Callable[[Path, bytes], object]
    mutate: Mutate = mutated
    room: int = 1 << 30
    heavy: bool = False


# Photos


def _photo_samples(kinds: Sequence[str]) -> Callable[[Path], Sequence[bytes]]:
    def make(room: Path) -> list[bytes]:
        from PIL import Image

        from facetl.data.metadata.header import _heif_registered

        rng = np.random.default_rng(3)
        found = []
        for kind in kinds:
            if kind == "HEIF" and not _heif_registered():
                continue
            for mode in {"JPEG": ("RGB", "L", "CMYK"), "PNG": ("RGB", "P", "LA", "I;16", "1"), "WEBP": ("RGB", "RGBA"),
                         "TIFF": ("RGB", "L", "RGBA", "CMYK", "I;16"), "PPM": ("RGB", "L", "1"), "BMP": ("RGB", "P"),
                         "GIF": ("P",), "HEIF": ("RGB",)}[kind]:  # fmt: skip
                pixels = rng.integers(0, 255, (13, 17, 3), np.uint8)
                image = Image.fromarray(pixels)
                if mode == "I;16":
                    image = Image.fromarray(rng.integers(0, 65535, (13, 17), np.uint16))
                elif mode != "RGB":
                    image = image.convert(mode)
                exif = Image.Exif()
                exif[0x0112] = int(rng.integers(1, 9))
                exif.get_ifd(0x8769)[0x9003] = "2011:06:05 14:03:02"
                out = io.BytesIO()
                extras: dict[str, Any] = {}
                if kind in ("JPEG", "PNG", "WEBP", "HEIF"):
                    extras["exif"] = exif
                if kind in ("JPEG", "WEBP"):
                    extras["xmp"] = packets()[0]
                if kind == "TIFF" and mode != "I;16":
                    extras["compression"] = str(rng.choice(["raw", "tiff_lzw", "tiff_adobe_deflate"]))
                image.save(out, kind, **extras)
                found.append(out.getvalue())
                if kind == "JPEG" and mode == "RGB":
                    image.save(again := io.BytesIO(), kind, progressive=True, exif=exif)
                    found.append(again.getvalue())
        found.append(b"P3 2 2 255\n" + b"1 2 3 " * 4)
        return found

    return make


def _decode(room: Path, data: bytes) -> object:
    from facetl.images.decode import read_photo

    return read_photo(data).shape


def _header(room: Path, data: bytes) -> object:
    from facetl.data.metadata.header import read_header, taken_at

    header = read_header(data)
    return header.upright, taken_at(header)


_EVERY = ("JPEG", "PNG", "WEBP", "TIFF", "PPM", "BMP", "GIF")


# XMP


def packets() -> list[bytes]:
    """Return XMP packets as other programs write them."""
    texts = (
        '<r:Regions><rdf:Description><r:AppliedToDimensions d:w="17" d:h="13" d:unit="pixel"/><r:RegionList><rdf:Seq>'
        '<rdf:li><rdf:Description r:Name="Ada" r:Type="Face"><r:Area a:x="0.375" a:y="0.5" a:w="0.25" a:h="0.5" '
        'a:unit="normalized"/></rdf:Description></rdf:li><rdf:li r:Type="Pet" r:Name="Rex"><r:Area a:x=".9" a:y=".9" '
        'a:w=".1" a:h=".1"/></rdf:li></rdf:Seq></r:RegionList></rdf:Description></r:Regions>',
        '<r:Regions rdf:parseType="Resource"><r:AppliedToDimensions rdf:parseType="Resource"><d:w>17</d:w><d:h>13</d:h>'
        '</r:AppliedToDimensions><r:RegionList><rdf:Bag><rdf:li rdf:parseType="Resource"><r:Area rdf:parseType='
        '"Resource"><a:h>0.5</a:h><a:w>0.25</a:w><a:x>0.375</a:x><a:y>0.5</a:y></r:Area><r:Name>Eve</r:Name><r:Type>Face'
        "</r:Type></rdf:li></rdf:Bag></r:RegionList></r:Regions>",
        "<MP:RegionInfo rdf:parseType='Resource'><MPRI:Regions><rdf:Bag><rdf:li MPReg:Rectangle='0.1, 0.2, 0.3, 0.4' "
        "MPReg:PersonDisplayName='Bob'/></rdf:Bag></MPRI:Regions></MP:RegionInfo>",
    )
    spaces = (
        'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" '
        'xmlns:r="http://www.metadataworkinggroup.com/schemas/regions/" '
        'xmlns:d="http://ns.adobe.com/xap/1.0/sType/Dimensions#" xmlns:a="http://ns.adobe.com/xmp/sType/Area#" '
        'xmlns:MP="http://ns.microsoft.com/photo/1.2/" xmlns:MPRI="http://ns.microsoft.com/photo/1.2/t/RegionInfo#" '
        'xmlns:MPReg="http://ns.microsoft.com/photo/1.2/t/Region#"'
    )
    whole = [
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF {spaces}><rdf:Description rdf:about="">{text}</rdf:Description>'
        "</rdf:RDF></x:xmpmeta>"
        for text in texts
    ]
    return [text.encode() for text in whole] + [f'<?xml version="1.0" encoding="UTF-16"?>{whole[0]}'.encode("utf-16")]


def _xmp_samples(room: Path) -> list[bytes]:
    from PIL import Image

    Image.new("RGB", (17, 13)).save(room / "photo.jpg")
    return packets()


def _sidecar(room: Path, data: bytes) -> object:
    from facetl.data.metadata.regions import read_regions

    (room / "photo.jpg.xmp").write_bytes(data)
    return read_regions(room / "photo.jpg")


def _merge(room: Path, data: bytes) -> object:
    from facetl.data.metadata.regions import Region
    from facetl.data.metadata.sidecar import sidecar_content

    (room / "photo.jpg.xmp").write_bytes(data)
    regions = [Region("Ada", (0.2, 0.2, 0.5, 0.8)), Region("Zoe & <Co>", (0.6, 0.1, 0.9, 0.4))]
    return sidecar_content(room / "photo.jpg", regions)


# Lists


def _as_file(name: str, read: Callable[[Path], object]) -> Callable[[Path, bytes], object]:
    """Return a reader of bytes that lie in a file of this name."""

    def of_file(room: Path, data: bytes) -> object:
        path = room / name
        path.write_bytes(data)
        return read(path)

    return of_file


def _pair_samples(room: Path) -> list[bytes]:
    for name in ("Ada", "Bob", "Zoë"):
        (room / name).mkdir()
        for number in (1, 2, 3):
            (room / name / f"{name}_{number:04d}.jpg").write_bytes(b"x")
    return [
        b"2\t1\nAda\t1\t2\nAda\t1\tBob\t2\nBob\t2\t3\nBob\t1\tAda\t3\n",
        b"2\nAda\t1\t2\nBob\t1\t2\nAda\t1\tBob\t2\nAda\t2\tBob\t1\n",
        "first,second,same,fold\nAda/Ada_0001.jpg,Ada/Ada_0002.jpg,1,0\nAda/Ada_0001.jpg,Zoë/Zoë_0001.jpg,no,3\n".encode(),
        b'\xef\xbb\xbffirst,second,same,first_person,second_person\r\n"Ada/Ada_0001.jpg",Bob\\Bob_0002.jpg,0,Ada,Bob\r\n',
    ]


def _pairs(path: Path) -> object:
    from facetl.data.pair_lists import find_pairs, read_pairs, shared_people

    pairs = read_pairs(path)
    return (
        find_pairs(pairs, path.parent),
        shared_people(pairs),
        [pairs.fold(fold) for fold in range(min(pairs.folds, 9))],
    )


def _triplet_samples(room: Path) -> list[bytes]:
    _pair_samples(room)
    return [
        b"Anchor,Positive,Negative\nAda/Ada_0001.jpg,Ada/Ada_0002.jpg,Bob/Bob_0001.jpg\n",
        b"negative,anchor,positive,x\r\nAda\\Ada_0001.jpg,Bob/Bob_0002.jpg,Bob/Bob_0001.jpg,\r\n",
    ]


def _triplets(path: Path) -> object:
    from facetl.data.triplets import read_triplets, triplet_manifest, triplet_people, triplet_rows

    triplets = read_triplets(path)
    manifest = triplet_manifest(path.parent, triplets)
    rows = triplet_rows(manifest, triplets)
    return triplet_people(manifest, rows)


def _groups(path: Path) -> object:
    from facetl.data.pair_lists import read_groups

    return read_groups(path)


def _layout_samples(room: Path) -> list[bytes]:
    photos = ("lfw/Ada/Ada_0001.jpg", "lfw/Ada/Ada_0002.jpg", "lfw/Bob/Bob_0001.jpg", "celeba/000001.jpg",
              "celeba/000002.jpg", "casia/0000045/001.jpg", "casia/0000045/002.jpg", "casia/0000046/001.jpg",
              "vggface2/train/n000002/0001_01.jpg", "vggface2/test/n000003/0001_01.jpg")  # fmt: skip
    for photo in photos:
        (room / photo).parent.mkdir(parents=True, exist_ok=True)
        (room / photo).write_bytes(b"x")
    return [
        b"2\nAda\t2\nBob\t1\n",
        b"000001.jpg 5\n000002.jpg 6\n",
        b"000001.jpg 0\n000002.jpg 2\n",
        b"45 0000045/001.jpg\n46 0000046\\001.jpg\n",
        b"n000002/0001_01.jpg\nn000003/0001_01.jpg\n",
        b'Class_ID, Name, Sample_Num, Flag, Gender\nn000002, "Ada ""L"" X", 2, 1, f\nn000003, Bob, 1, 0, m\n',
    ]


_LAYOUT_FILES = ("lfw/peopleDevTrain.txt", "lfw/people.txt", "celeba/identity_CelebA.txt",
                 "celeba/list_eval_partition.txt", "casia/clean_list.txt", "vggface2/train_list.txt",
                 "vggface2/identity_meta.csv")  # fmt: skip


def _layouts(room: Path, data: bytes) -> object:
    from facetl.data.layouts import read_layout

    place = room / _LAYOUT_FILES[hash_of(data) % len(_LAYOUT_FILES)]
    place.write_bytes(data)
    name = place.relative_to(room).parts[0]
    try:
        read_layout(room / name, "auto")
        return read_layout(room / name, name).labels
    finally:
        place.unlink()


def hash_of(data: bytes) -> int:
    """Return a number that the bytes alone decide."""
    return sum(data) + 7 * len(data)


# A run's JSON files


def _config_samples(room: Path) -> list[bytes]:
    from facetl.backbones.spec import ExtractorSpec

    (room / "head.keras").write_bytes(b"head")
    weights = {"source": "file", "sha256": "ab" * 32, "path": "net.h5", "description": "weights from net.h5"}
    extractor = {"spec": ExtractorSpec().to_json(), "weights": weights, "fingerprint": "cd" * 32, "dim": 48}
    config = {"facetl": "0.1.0", "data": "faces", "layout": "folders", "split": {"validation": 0.2, "test": 0.2},
              "settings": {"seed": 0}, "head": {"fallback": False, "width": 4}, "extractor": extractor}  # fmt: skip
    updated = config | {"compatible_heads": ["ab"], "version": 2, "update": {"a": 1}, "threshold": 0.5,
                        "updates": [{"data": "faces"}]}  # fmt: skip
    return [json.dumps(one).encode() for one in (config, updated)]


def _repeated_samples(room: Path) -> list[bytes]:
    from facetl.training.settings import TrainingSettings

    settings = TrainingSettings().to_json()
    return [json.dumps(json.loads(one) | {"settings": settings}).encode() for one in _config_samples(room)]


def _config(path: Path) -> object:
    from facetl.recognition.run_folder import RunFolder

    run = RunFolder(path.parent)
    every = (
        run.config, run.training_config, run.extractor, run.head_digest, run.compatible_heads, run.published_threshold,
        run.gallery,
    )  # fmt: skip
    return [_refused(each) for each in every].count(False) or run.config()


def _repeated(path: Path) -> object:
    from facetl.cli.settings_options import Given, RunConfig, shares_of
    from facetl.runs.versions import history
    from facetl.training.settings import TrainingSettings

    repeated = RunConfig.read(path, TrainingSettings)
    assert repeated is not None
    every = (
        lambda: history(path.parent), lambda: repeated.layout, repeated.extractor,
        lambda: shares_of(repeated, Given({}, frozenset()), validation=0.1, test=0.2),
    )  # fmt: skip
    return [_refused(each) for each in every].count(False)


def _refused(read: Callable[[], object]) -> bool:
    """Return whether a read is refused as it should be."""
    from facetl.errors import FacetlError

    try:
        read()
    except FacetlError:
        return True
    return False


def _calibration_samples(room: Path) -> list[bytes]:
    from facetl.calibration.calibration import calibrate

    rng = np.random.default_rng(0)
    centres = rng.normal(size=(12, 8))
    vectors = np.repeat(centres, 4, axis=0) + rng.normal(0, 0.4, (48, 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    stored = calibrate(vectors, np.repeat(np.arange(12), 4), far=None).to_json()
    isotonic = stored | {
        "probability": {"method": "isotonic", "distances": [0.1, 0.5, 2.0], "probabilities": [0.9, 0.5, 0.1]}
    }
    return [json.dumps(one).encode() for one in (stored, isotonic)]


def _calibration(path: Path) -> object:
    from facetl.recognition.run_folder import RunFolder

    calibration = RunFolder(path.parent).calibration()
    found = calibration.probability([0.0, 1.0, 4.0])
    assert ((found >= 0) & (found <= 1)).all()
    return calibration.to_json()


def _people(path: Path) -> object:
    from facetl.recognition.run_folder import RunFolder

    return RunFolder(path.parent).people()


# Arrays


def _gallery_samples(room: Path) -> list[bytes]:
    from facetl.recognition.gallery_file import GalleryFile

    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(3, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    GalleryFile("ab", ("Ada", "Ada", "Zoë"), ("1" * 64,) * 3, rng.uniform(0, 9, (3, 4)), vectors).write(room / "g.npz")
    return [(room / "g.npz").read_bytes()]


def _gallery(path: Path) -> object:
    from facetl.recognition.gallery_file import GalleryFile

    gallery = GalleryFile.read(path)
    assert gallery is not None
    return gallery.counts(), gallery.without("Ada")


def _exemplar_samples(room: Path) -> list[bytes]:
    from facetl.methods.continual.exemplars import EXEMPLARS, Exemplars

    rng = np.random.default_rng(1)
    Exemplars.of(rng.normal(size=(4, 3)), rng.normal(size=(4, 2)), ["a", "a", "b", "c"]).write(room)
    return [(room / EXEMPLARS).read_bytes()]


def _exemplars(room: Path, data: bytes) -> object:
    from facetl.methods.continual.exemplars import EXEMPLARS, Exemplars

    (room / EXEMPLARS).write_bytes(data)
    kept = Exemplars.read(room)
    assert kept is not None
    return kept.people, kept.bytes_per_person


def _checkpoint_samples(room: Path) -> list[bytes]:
    from facetl.training.fit import Checkpoint

    arrays = [np.ones((2, 3), np.float32), np.zeros(3, np.float32)]
    Checkpoint(2, arrays, arrays, {"wait": 1}, [{"loss": 0.5}], {"seed": 0}).save(room / "c.npz")
    return [(room / "c.npz").read_bytes()]


def _checkpoint(path: Path) -> object:
    from facetl.training.fit import Checkpoint

    return Checkpoint.load(path, settings={"seed": 0})


# The cache


def _closed_sqlite(path: Path) -> bytes:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path.read_bytes()


def _open_anew(path: Path, data: bytes) -> None:
    for suffix in ("-wal", "-shm", ""):
        with suppress(FileNotFoundError):
            os.unlink(f"{path}{suffix}")
    path.write_bytes(data)


_FINGERPRINT = "0123456789abcdef" * 4
_KEYS = [f"{number:064x}" for number in range(5)]


def _cache_samples(room: Path) -> list[bytes]:
    from facetl.embeddings import shards
    from facetl.embeddings.embedding_cache import EmbeddingCache

    shards.SHARD_BYTES = 4096  # a shard of half a gigabyte, sparse or not, is none for a fuzzer
    with EmbeddingCache.open(room / "kept", fingerprint=_FINGERPRINT, dim=3, description={"a": 1}, write=True) as cache:
        cache.append(_KEYS, np.arange(15, dtype=np.float16).reshape(5, 3))
        cache.remember_paths({room / f"{key}.jpg": key for key in _KEYS})
    return [_closed_sqlite(room / "kept" / "index.sqlite")]


def _use_cache(folder: Path) -> object:
    from facetl.embeddings.embedding_cache import EmbeddingCache
    from facetl.embeddings.maintenance import gc, info, verify

    def gather() -> object:
        with EmbeddingCache.open(folder, fingerprint=_FINGERPRINT, write=False) as cache:
            return cache.rows([key for key, there in zip(_KEYS, cache.has(_KEYS), strict=True) if there])

    def fill() -> object:
        with EmbeddingCache.open(folder, fingerprint=_FINGERPRINT, dim=3, write=True) as cache:
            return cache.append(["f" * 64], np.zeros((1, 3), np.float16))

    every = (lambda: info(folder), gather, lambda: verify(folder), fill, lambda: gc(folder))
    return [_refused(each) for each in every]


def _index(room: Path, data: bytes) -> object:
    folder = room / "cache"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(room / "kept", folder, copy_function=copy_with_holes)
    _open_anew(folder / "index.sqlite", data)
    return _use_cache(folder)


def _shard_samples(room: Path) -> list[bytes]:
    _cache_samples(room)
    return [(room / "kept" / _FINGERPRINT[:16] / "shard-00000.npy").read_bytes()]


def _shard(room: Path, data: bytes) -> object:
    folder = room / "cache"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(room / "kept", folder, copy_function=copy_with_holes)
    (folder / _FINGERPRINT[:16] / "shard-00000.npy").write_bytes(data)
    return _use_cache(folder)


def _a_face() -> Any:
    from facetl.faces.detectors import Face

    numbers = np.random.default_rng(5).normal(100, 50, 15).astype(np.float32)
    left, top, right, bottom = numbers[:4].tolist()
    return Face((left, top, right, bottom), numbers[4:14].reshape(5, 2), float(numbers[14]))


def _landmark_samples(room: Path) -> list[bytes]:
    from facetl.faces.landmark_store import FILE_NAME, LandmarkStore

    with LandmarkStore.open(room / "kept", write=True) as store:
        store.put("ab", {"name": "eyes"}, {_KEYS[0]: [_a_face()], _KEYS[1]: []})
        store.remember({Path("/a/b.jpg"): _KEYS[0]})
    return [_closed_sqlite(room / "kept" / FILE_NAME)]


def _landmarks(room: Path, data: bytes) -> object:
    from facetl.faces.landmark_store import FILE_NAME, LandmarkStore

    (room / "cache").mkdir(exist_ok=True)
    _open_anew(room / "cache" / FILE_NAME, data)

    def use() -> None:
        with LandmarkStore.open(room / "cache", write=False) as store:
            every = (lambda: store.find("ab", _KEYS), store.detectors, store.damaged, store.photos)
            for each in every:
                _refused(each)
        with LandmarkStore.open(room / "cache", write=True) as store:
            store.put("cd", {}, {_KEYS[2]: [_a_face()]})
            store.keep([bytes.fromhex(_KEYS[0])])

    return _refused(use)


def _journal_samples(room: Path) -> list[bytes]:
    from facetl.faces.align_journal import FILE_NAME, AlignedFace, DonePhoto, Journal
    from facetl.faces.quality import FaceQuality, Pose

    face = AlignedFace("1.png", _a_face(), FaceQuality(31.5, 0.9, 20.25, Pose(1.5, -2.5, 3.5)), "poor")
    Journal.open(room, {"size": 112}).append(
        [DonePhoto("ab", "a.jpg", "a", (face,)), DonePhoto("cd", "b.jpg", "b", ())]
    )
    return [(room / FILE_NAME).read_bytes()]


def _journal(room: Path, data: bytes) -> object:
    from facetl.faces.align_journal import FILE_NAME, Journal

    (room / FILE_NAME).write_bytes(data)
    journal = Journal.open(room, {"size": 112})
    return [photo.to_json() for photo in journal.done.values()]


# The library


def _library_samples(room: Path) -> list[bytes]:
    from scenes import draft, made_up

    from facetl.people.library import FILE_NAME, Library

    with Library.open(room / "made", create=True) as library:
        faces = made_up(library, 8)
        library.write_stacks([draft(*faces[:3]), draft(*faces[3:6]), draft(*faces[6:])])
        library.assign_name(faces[:2], "Ada")
        library.assign_name(faces[3:4], "Zoë", origin="region")
        library.mark_different(faces[:1], faces[4:5])
        library.mark_not_a_face(faces[6:7])
        library.rename("Ada", "Eve")
        library.undo()
        library.set_setting("folders", json.dumps(["/a"]))
        library.set_setting("run", "models/1")
    return [_closed_sqlite(room / "made" / FILE_NAME)]


def _library(room: Path, data: bytes) -> object:
    from facetl.people.library import FILE_NAME, Library
    from facetl.people.library_settings import library_detector, run_in_use, source_folders

    (room / "lib").mkdir(exist_ok=True)
    _open_anew(room / "lib" / FILE_NAME, data)
    with Library.open(room / "lib") as library:
        every: tuple[Callable[[], object], ...] = (
            library.counts, library.photos, library.people, library.stacks, library.answers, library.resolved,
            library.shown, lambda: [library.faces_of(one) for one in (1, 2)], lambda: library.faces([1, 2]),
            lambda: library.stack(1), lambda: library.photos(name="Ada"), lambda: library.stacks(order="uncertain"),
            lambda: library.stacks(order="name"), lambda: source_folders(library), lambda: library_detector(library),
            lambda: run_in_use(library), library.redo, library.undo, library.undo, library.redo,
            lambda: library.assign_name([2], "Bob"), lambda: library.mark_same([1, 4]),
            lambda: library.rename("Bob", "Eve"),
            lambda: library.merge_stacks(1, 2), lambda: library.split_stack(1, [1]), library.stacks,
        )  # fmt: skip
        return [_refused(each) for each in every]


# Nets


def _keras_samples(room: Path) -> list[bytes]:
    from facetl._tensorflow import start_tensorflow

    start_tensorflow()
    import keras

    keras.utils.set_random_seed(3)
    net = keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 3), keras.layers.BatchNormalization(),
         keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)]
    )  # fmt: skip
    net.save(room / "net.keras")
    net.save_weights(room / "net.weights.h5")
    return [(room / "net.keras").read_bytes()]


def _weights_samples(room: Path) -> list[bytes]:
    _keras_samples(room)
    return [(room / "net.weights.h5").read_bytes()]


def _weights(path: Path) -> object:
    import keras

    from facetl.backbones import weights as weights_module
    from facetl.backbones.spec import Weights

    net = _HELD.get("net")
    if net is None:
        net = _HELD["net"] = keras.models.load_model(path.with_name("net.keras"), compile=False)
    weights_module.load(net, Weights("file", "ab", path))
    return None


_HELD: dict[str, Any] = {}


def _keras_file(path: Path) -> object:
    import keras

    from facetl.backbones.backbone import Backbone

    keras.backend.clear_session()
    return Backbone(str(path)).net.extract([np.zeros((9, 9, 3), np.uint8)])


def _head(path: Path) -> object:
    import keras

    from facetl.recognition.run_folder import RunFolder

    keras.backend.clear_session()
    return RunFolder(path.parent).head().output_shape


def _onnx_samples(room: Path) -> list[bytes]:
    import tiny_onnx

    return [tiny_onnx.corner_net(room / "a.onnx", np.ones((48, 5), np.float32)).read_bytes()]


def _onnx(path: Path) -> object:
    from facetl.backbones.backbone import Backbone

    return Backbone(f"onnx:{path}").net.extract([np.zeros((9, 9, 3), np.uint8)])


def _package_samples(room: Path) -> list[bytes]:
    from miniature import Miniature, Quantised

    tensors = [Quantised("conv2d_1/kernel", np.arange(27 * 40).reshape(3, 3, 3, 40) % 256, -0.5, 0.01)]
    plain = Miniature(tensors).write(room / "a.tgz")
    with tarfile.open(plain) as packed:
        members = [(one.name, packed.extractfile(one).read()) for one in packed.getmembers()]  # type: ignore[union-attr]
    _HELD["members"] = members
    return [plain.read_bytes(), *(content for _, content in members)]


def _mutated_package(rng: random.Random, samples: Sequence[bytes]) -> bytes:
    """Change a member of the package, packed again; or the package's bytes."""
    if rng.random() < 0.3:
        return mutated(rng, samples[:1])
    out = io.BytesIO()
    chosen = rng.randrange(len(samples) - 1)
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as package:
        for number, (name, content) in enumerate(_HELD["members"]):
            written = mutated(rng, [content]) if number == chosen else content
            member = tarfile.TarInfo(name)
            member.size = len(written)
            package.addfile(member, io.BytesIO(written))
    return out.getvalue()


def _package(path: Path) -> object:
    from facetl.backbones import nsfwjs_weights

    return nsfwjs_weights.read(path)


READERS: dict[str, Reader] = {
    one.name: one
    for one in (
        Reader("photos", 60, _photo_samples(_EVERY), _decode, mutated_photo, room=3 << 29),
        Reader("heic", 6, _photo_samples(("HEIF",)), _decode, room=3 << 29),
        Reader("headers", 120, _photo_samples((*_EVERY, "HEIF")), _header, mutated_photo),
        Reader("sidecars", 220, _xmp_samples, _sidecar),
        Reader("sidecars written", 60, _xmp_samples, _merge),
        Reader("pairs", 120, _pair_samples, _as_file("pairs.txt", _pairs)),
        Reader("triplets", 70, _triplet_samples, _as_file("triplets.csv", _triplets)),
        Reader("groups", 50, lambda room: [b"person,group\nAda,x\nZo\xc3\xab,y\n"], _as_file("groups.csv", _groups)),
        Reader("layouts", 30, _layout_samples, _layouts),
        Reader("config.json", 30, _config_samples, _as_file("config.json", _config), mutated_json),
        Reader("config repeated", 10, _repeated_samples, _as_file("config.json", _repeated), mutated_json, heavy=True),
        Reader("calibration.json", 90, _calibration_samples, _as_file("calibration.json", _calibration), mutated_json),
        Reader("people.json", 20, lambda room: [b'{"train": ["Ada"], "validation": ["Bob"], "test": []}'],
               _as_file("people.json", _people), mutated_json),
        Reader("gallery.npz", 30, _gallery_samples, _as_file("gallery.npz", _gallery), mutated_zip()),
        Reader("exemplars.npz", 12, _exemplar_samples, _exemplars, mutated_zip()),
        Reader("checkpoint.npz", 12, _checkpoint_samples, _as_file("checkpoint.npz", _checkpoint), mutated_zip(),
               heavy=True),
        Reader("cache index", 8, _cache_samples, _index, mutated_sqlite),
        Reader("cache shards", 4, _shard_samples, _shard),
        Reader("landmarks", 10, _landmark_samples, _landmarks, mutated_sqlite),
        Reader("align journal", 40, _journal_samples, _journal, mutated_json),
        Reader("library", 8, _library_samples, _library, mutated_sqlite),
        Reader("stand-in package", 10, _package_samples, _as_file("a.tgz", _package), _mutated_package),
        Reader("weights.h5", 2, _weights_samples, _as_file("a.weights.h5", _weights), heavy=True),
        Reader("head.keras", 0.3, _keras_samples, _as_file("head.keras", _head), mutated_zip(mutated_json),
               heavy=True),
        Reader("net.keras", 0.3, _keras_samples, _as_file("a.keras", _keras_file), mutated_zip(mutated_json),
               heavy=True),
        Reader("net.onnx", 6, _onnx_samples, _as_file("a.onnx", _onnx), heavy=True),
    )
}  # fmt: skip
