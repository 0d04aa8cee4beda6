"""What a name means, and what of it belongs to a fingerprint."""

from __future__ import annotations

from pathlib import Path

import pytest

from facetl.backbones.spec import BACKBONES, ExtractorSpec, InputForm, family_of, file_of, spelt_out
from facetl.backbones.weights import resolve
from facetl.errors import FacetlError, WeightsError

SHA = "ab" * 32


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("inception_v3", "keras_applications"),
        ("dlib", "dlib"),
        ("onnx:nets/arc.onnx", "onnx"),
        ("onnx:arc.onnx?std=128", "onnx"),
        ("nets/mine.keras", "model_file"),
        ("mine.keras?mean=0&std=1", "model_file"),
        ("run/saved_model/saved_model.pb", "model_file"),
        ("InceptionV3.pb", "graph_def"),
        ("dlibs", "keras_applications"),
    ],
)
def test_the_family_follows_from_the_name(name: str, family: str) -> None:
    assert family_of(name) is BACKBONES[family]
    assert BACKBONES[family].in_tensorflow == (family not in ("onnx", "dlib"))
    assert BACKBONES[family].finds_faces == (family == "dlib")
    assert BACKBONES[family].takes_weights == (family == "keras_applications")


def test_a_folder_of_a_saved_model_is_spelt_out(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"graph")
    name = ExtractorSpec.of(f"{tmp_path}?size=8").name
    assert name == f"{tmp_path}/saved_model.pb?size=8"
    assert file_of(name) == tmp_path / "saved_model.pb"
    assert spelt_out("resnet50") == "resnet50"


def test_a_file_means_the_same_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert ExtractorSpec.of("onnx:nets/a.onnx?std=1").name == f"onnx:{tmp_path}/nets/a.onnx?std=1"
    assert ExtractorSpec.of("a.keras").name == f"{tmp_path}/a.keras"
    assert ExtractorSpec.of("net.pb").name == f"{tmp_path}/net.pb"
    assert ExtractorSpec.of("dlib").name == "dlib"


def test_where_a_file_lies_is_not_its_identity_but_its_options_are() -> None:
    def fingerprint(name: str) -> str:
        return ExtractorSpec.of(name).fingerprint(SHA)

    assert fingerprint("onnx:/here/a.onnx") == fingerprint("onnx:b.onnx") != fingerprint("onnx:b.onnx?std=128")
    assert fingerprint("onnx:b.onnx?mean=1&std=2") == fingerprint("onnx:b.onnx?std=2&mean=1")
    assert fingerprint("onnx:b.onnx") != fingerprint("b.keras") == fingerprint("c/b.keras")
    assert fingerprint("onnx:b.onnx") != ExtractorSpec.of("onnx:b.onnx").fingerprint("cd" * 32)


def test_options_become_a_form() -> None:
    assert InputForm().with_options("net.keras") == InputForm()
    form = InputForm().with_options("onnx:net?mean=1,2.5,3&std=128&channels=bgr&size=160")
    assert form == InputForm(mean=(1, 2.5, 3), std=(128,), channels="bgr", size=160)


@pytest.mark.parametrize(
    "option",
    [
        "colour=red",
        "std=0",
        "std=-1",
        "std=nan",
        "mean=inf",
        "mean=1,2",
        "mean=",
        "size=0",
        "size=x",
        "channels=grb",
        "x",
    ],
)
def test_an_option_that_cannot_be(option: str) -> None:
    with pytest.raises(WeightsError, match=r"^extractor: "):
        InputForm().with_options(f"onnx:net.onnx?{option}")


def test_dlib_takes_the_whole_photo() -> None:
    assert ExtractorSpec.of("dlib").tap == "avg"
    for changed in ({"crop": 0.5}, {"tap": "mixed2"}, {"align": "mtcnn"}):
        with pytest.raises(FacetlError, match="finds the face in the whole photo"):
            ExtractorSpec.of("dlib", **changed)


class TestWeights:
    def test_a_file_is_known_by_its_content_and_that_of_the_file_beside_it(self, tmp_path: Path) -> None:
        path = tmp_path / "net.onnx"
        path.write_bytes(b"graph")
        alone = resolve(ExtractorSpec.of(f"onnx:{path}?std=128"))
        assert (alone.source, alone.path) == ("file", path)
        digests = {alone.sha256}
        for data in (b"weights", b"others"):
            (tmp_path / "net.onnx.data").write_bytes(data)
            digests.add(resolve(ExtractorSpec.of(f"onnx:{path}")).sha256)
        assert len(digests) == 3

    def test_a_saved_model_is_known_by_all_its_files_wherever_it_lies(self, tmp_path: Path) -> None:
        def saved(folder: Path, variables: bytes) -> str:
            (folder / "variables").mkdir(parents=True)
            (folder / "saved_model.pb").write_bytes(b"graph")
            (folder / "variables" / "variables.index").write_bytes(variables)
            found = resolve(ExtractorSpec.of(str(folder)))
            assert found.path == folder
            return found.sha256

        assert saved(tmp_path / "a", b"one") == saved(tmp_path / "b", b"one") != saved(tmp_path / "c", b"two")

    @pytest.mark.parametrize("name", ["onnx:{}/none.onnx", "{}/none.keras", "{}/none/saved_model.pb"])
    def test_a_file_that_is_not_there(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match="expected a weights file, found nothing"):
            resolve(ExtractorSpec.of(name.format(tmp_path)))

    def test_weights_for_what_brings_its_own(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match="--weights: an ONNX file brings its own"):
            resolve(ExtractorSpec.of("onnx:net.onnx"), given=tmp_path / "x.h5")
