"""Metrics and calibration need no TensorFlow."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import pytest

import facetl.calibration
import facetl.metrics


def test_metrics_and_calibration_import_no_tensorflow():
    modules = [
        f"{package.__name__}.{module.name}"
        for package in (facetl.metrics, facetl.calibration)
        for module in pkgutil.iter_modules(package.__path__)
    ]
    assert {"facetl.metrics.verification", "facetl.calibration.calibration"} <= set(modules)
    script = "".join(f"import {module}\n" for module in modules)
    script += "import sys\nassert not {'tensorflow', 'keras', 'matplotlib.pyplot'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_what_the_package_exports_is_there_and_imported_when_it_is_used():
    script = "import sys, facetl.metrics\nassert not {'scipy', 'sklearn'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
    assert dir(facetl.metrics) == facetl.metrics.__all__ == sorted(facetl.metrics.__all__)
    for name in facetl.metrics.__all__:
        assert getattr(facetl.metrics, name).__name__ == name
    with pytest.raises(AttributeError, match="verify_folds"):
        _ = facetl.metrics.nothing
