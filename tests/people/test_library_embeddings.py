"""Features of a library's faces: from its own cache, computed where they are missing, while the photo is there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from scenes import SPEC, WEIGHTS, Net, Reader, feature, save, scene

from facetl.faces.alignment import aligned
from facetl.images.decode import read_photo
from facetl.people.library import Library
from facetl.people.library_embeddings import library_features
from facetl.people.photo_import import import_photos


def test_features_are_of_the_faces(tmp_path: Path) -> None:
    for place in range(3):
        save(tmp_path / "album" / f"{place}.png", scene([(10, 60, 90, place), (150, 60, 110, place + 5)], seed=place))
    with Library.open(tmp_path / "lib", create=True) as library:
        import_photos(library, [tmp_path / "album"], detector=Reader())
        ids = library.face_ids(None).tolist()
        assert len(ids) == 6
        calls: list[tuple[int, int]] = []
        net = Net()
        some = library_features(library, ids[1:3], SPEC, WEIGHTS, make_net=lambda view: net)
        assert (some.ids.tolist(), net.shown) == (ids[1:3], 2)
        found = library_features(
            library, ids[::-1], SPEC, WEIGHTS, make_net=lambda view: net, on_progress=lambda *call: calls.append(call)
        )
        assert (found.ids.tolist(), net.shown, found.report.computed) == (ids[::-1], 6, 4)
        assert (calls[0], calls[-1]) == ((2, 6), (6, 6))
        assert found.features is not None
        assert found.layout is not None
        assert found.layout.dim == 48
        for face, row in zip(library.faces(ids[::-1]), found.features.array(), strict=True):
            image = read_photo(library.photo(face.photo).paths[0])
            np.testing.assert_allclose(row, feature(aligned(image, [face.face])), rtol=1e-3)
        assert list(library.cache_folder.glob("*/shard-*.npy"))
        json.dumps(found.report.to_json())


def test_a_face_whose_photo_is_gone_has_none(tmp_path: Path) -> None:
    for place in range(2):
        save(tmp_path / "album" / f"{place}.png", scene([(10, 60, 90, place)], seed=place))
    save(tmp_path / "copies" / "copy.png", scene([(10, 60, 90, 1)], seed=1))
    with Library.open(tmp_path / "lib", create=True) as library:
        import_photos(library, [tmp_path / "album", tmp_path / "copies"], detector=Reader())
        one, other = library.face_ids().tolist()
        for path in (tmp_path / "album").iterdir():
            path.unlink()
        found = library_features(library, [one, other], SPEC, WEIGHTS, make_net=Net)
        # Of the second a copy is left.
        assert found.ids.tolist() == [other]
        assert found.report.skipped == {"unreadable": 1}
        (tmp_path / "copies" / "copy.png").unlink()
        assert library_features(library, [other], SPEC, WEIGHTS, make_net=Net).ids.tolist() == [other]
        nothing = library_features(library, [one], SPEC, WEIGHTS, make_net=Net)
        assert (len(nothing.ids), nothing.features, nothing.layout) == (0, None, None)
