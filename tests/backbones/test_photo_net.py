import numpy as np

from facetl.backbones.photo_net import FeatureMap


def test_a_feature_is_as_long_as_its_maps() -> None:
    assert FeatureMap(((7, 288), (5, 768))).dim == 49 * 288 + 25 * 768


def test_regions_of_a_map_are_its_windows_by_row_column_and_channel() -> None:
    layout = FeatureMap(((1, 3), (5, 2)))
    (vector,), (whole, top_left, top_right, low_left, low_right, centre, brow, eyes, mouth) = layout.regions()
    cells = 3 + np.arange(50).reshape(5, 5, 2)
    assert vector.tolist() == [0, 1, 2]
    assert whole.tolist() == list(range(3, 53))
    for found, rows, columns in (
        (top_left, slice(0, 3), slice(0, 3)),
        (top_right, slice(0, 3), slice(2, 5)),
        (low_left, slice(2, 5), slice(0, 3)),
        (low_right, slice(2, 5), slice(2, 5)),
        (centre, slice(1, 4), slice(1, 4)),
        (brow, slice(0, 2), slice(0, 5)),
        (eyes, slice(1, 4), slice(0, 5)),
        (mouth, slice(3, 5), slice(0, 5)),
    ):
        assert found.tolist() == cells[rows, columns].ravel().tolist()


def test_a_coarse_map_and_an_unknown_feature_are_one_region() -> None:
    assert [len(region) for (region,) in FeatureMap(((2, 5),)).regions()] == [20]
    assert [len(region) for (region,) in FeatureMap.flat(11).regions()] == [11]


def test_joined_layouts_lie_side_by_side() -> None:
    joined = FeatureMap.joined([FeatureMap(((2, 3),)), FeatureMap(((1, 4),))])
    assert joined == FeatureMap(((2, 3), (1, 4)))
    assert [region.tolist() for (region,) in joined.regions()] == [list(range(12)), list(range(12, 16))]
    assert joined.to_json() == [[2, 3], [1, 4]]
