"""FaceEmbedder as scikit-learn uses it: parameters, copies, pipelines and searches."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sklearn.utils.estimator_checks as checks
from patches import PEOPLE, photo, use_colours, write_run
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

from facetl import transformer as transformer_module
from facetl.errors import DataError, RunError
from facetl.images.decode import read_photo
from facetl.recognition.recognizer import Recognizer
from facetl.transformer import FaceEmbedder

# check_estimator hands 2-D tables of numbers to fit and transform, which are no photos. These need no data.
WITHOUT_DATA = (
    checks.check_estimator_cloneable,
    checks.check_estimator_repr,
    checks.check_no_attributes_set_in_init,
    checks.check_parameters_default_constructible,
    checks.check_get_params_invariance,
    checks.check_set_params,
    checks.check_valid_tag_types,
    checks.check_estimator_tags_renamed,
    checks.check_mixin_order,
)


@pytest.fixture(autouse=True)
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a run that knows people by their colour."""
    use_colours(monkeypatch)
    write_run(tmp_path / "run")
    transformer_module._of_run.cache_clear()
    transformer_module._of_backbone.cache_clear()
    return tmp_path


@pytest.fixture
def faces(room: Path) -> tuple[list[Path], list[str]]:
    """Return 18 photos of three people, and whom each shows."""
    names = [name for name in ("Ann", "Bob", "Eve") for _ in range(6)]
    paths = [photo(room / f"{row:02d}.png", PEOPLE[name], seed=row) for row, name in enumerate(names)]
    return paths, names


@pytest.mark.parametrize("check", WITHOUT_DATA, ids=lambda check: check.__name__)
def test_scikit_learns_own_checks(check: object) -> None:
    check("FaceEmbedder", FaceEmbedder())  # type: ignore[operator]


def test_rows_are_the_runs_embeddings(room: Path, faces: tuple[list[Path], list[str]]) -> None:
    paths, _ = faces
    embedder = FaceEmbedder(room / "run", batch_size=5)
    expected = Recognizer.load(room / "run").embed(paths).embeddings
    np.testing.assert_allclose(embedder.fit_transform(paths), expected, atol=1e-6)
    images = [read_photo(path) for path in paths]
    forms = ([str(path) for path in paths], np.array(paths, object), np.stack(images), images, pd.Series(paths))
    for form in forms:
        np.testing.assert_allclose(embedder.transform(form), expected, atol=1e-6)
    assert embedder.get_feature_names_out().tolist() == [f"faceembedder{number}" for number in range(4)]


def test_a_copy_has_the_parameters_and_a_pickle_the_rest(room: Path, faces: tuple[list[Path], list[str]]) -> None:
    embedder = FaceEmbedder(str(room / "run"), missing="nan").fit(faces[0])
    copy = clone(embedder)
    assert copy.get_params() == embedder.get_params()
    with pytest.raises(NotFittedError):
        copy.transform(faces[0])
    again = pickle.loads(pickle.dumps(embedder))
    np.testing.assert_array_equal(again.transform(faces[0]), embedder.transform(faces[0]))


def test_a_pipeline_and_a_search_tell_people_apart(room: Path, faces: tuple[list[Path], list[str]]) -> None:
    paths, names = faces
    pipeline = make_pipeline(FaceEmbedder(room / "run"), KNeighborsClassifier(1))
    assert cross_val_score(pipeline, paths, names, cv=3).tolist() == [1, 1, 1]
    search = GridSearchCV(pipeline, {"faceembedder__batch_size": [4, 32], "kneighborsclassifier__n_neighbors": [1, 3]})
    assert search.fit(paths, names).best_score_ == 1
    table = pd.DataFrame({"path": [str(path) for path in paths]})
    columns = ColumnTransformer([("faces", FaceEmbedder(room / "run"), ["path"])])
    np.testing.assert_array_equal(columns.fit_transform(table), FaceEmbedder(room / "run").fit_transform(paths))


def test_a_search_over_taps_of_a_frozen_net(faces: tuple[list[Path], list[str]], small_net_weights: Path) -> None:
    paths, names = faces
    frozen = FaceEmbedder(backbone="mobilenet_v3_small", weights=small_net_weights, mirror=False)
    search = GridSearchCV(
        make_pipeline(frozen, Normalizer(), KNeighborsClassifier(1)), {"faceembedder__tap": ["avg", "conv:2"]}, cv=2
    )
    search.fit(paths, names)
    widths = {tap: clone(frozen).set_params(tap=tap).fit(paths).n_features_out_ for tap in ("avg", "conv:2")}
    assert widths == {"avg": 576, "conv:2": 2 * 2 * 16}
    assert search.cv_results_["mean_test_score"][1] == 1


def test_a_photo_that_cannot_be_embedded_is_an_error_or_nan(room: Path, faces: tuple[list[Path], list[str]]) -> None:
    (room / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    photos = [faces[0][0], room / "broken.jpg", faces[0][1]]
    with pytest.raises(DataError, match=r"broken\.jpg: every photo must be embedded.*1 truncated"):
        FaceEmbedder(room / "run").fit_transform(photos)
    rows = FaceEmbedder(room / "run", missing="nan").fit_transform(photos)
    assert np.isnan(rows).all(axis=1).tolist() == [False, True, False]


@pytest.mark.parametrize(
    "table", [np.zeros((3, 4)), [], "photo.png", np.zeros((2, 8, 8, 3)), [1, 2], np.array([["a", "b"]])], ids=repr
)
def test_what_is_no_photo_is_refused(room: Path, table: object) -> None:
    with pytest.raises(DataError, match="X: expected photos"):
        FaceEmbedder(room / "run").fit(table)


def test_wrong_parameters_are_refused_by_fit(room: Path, faces: tuple[list[Path], list[str]]) -> None:
    with pytest.raises(DataError, match="missing"):
        FaceEmbedder(room / "run", missing="drop").fit(faces[0])
    with pytest.raises(RunError):
        FaceEmbedder(room / "gone").fit(faces[0])
