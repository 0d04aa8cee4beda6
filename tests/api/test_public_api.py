"""What `import facetl` gives: the documented names, lazily, without TensorFlow."""

from __future__ import annotations

import json
import subprocess
import sys
from types import ModuleType

import pytest

import facetl


def in_a_new_process(code: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_dir_is_the_documented_list() -> None:
    assert dir(facetl) == sorted(facetl.__all__)
    assert set(facetl.__all__) == {
        "Backbone",
        "FaceEmbedder",
        "Manifest",
        "MetricModel",
        "Recognizer",
        "Whitening",
        "__version__",
        "build_head",
        "calibrate",
        "callbacks",
        "embed",
        "losses",
        "metrics",
        "samplers",
    }


@pytest.mark.parametrize("name", sorted(set(facetl.__all__) - {"__version__"}))
def test_each_name_is_there_and_documented(name: str) -> None:
    value = getattr(facetl, name)
    assert isinstance(value, ModuleType) == (name in {"callbacks", "losses", "metrics", "samplers"})
    assert value.__doc__


def test_another_name_is_an_error_that_lists_them() -> None:
    with pytest.raises(AttributeError, match="Manifest"):
        facetl.nothing  # noqa: B018


def test_the_import_is_light() -> None:
    code = "import sys, json, facetl; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    loaded = in_a_new_process(code)
    assert not {"tensorflow", "keras", "numpy", "cv2", "pandas"} & set(loaded)


def test_data_and_metrics_bring_no_tensorflow() -> None:
    code = "import sys, json, facetl; facetl.Manifest, facetl.metrics, facetl.calibrate, facetl.Backbone;"
    loaded = in_a_new_process(code + "print(json.dumps([name.split('.')[0] for name in sys.modules]))")
    assert not {"tensorflow", "keras"} & set(loaded)
