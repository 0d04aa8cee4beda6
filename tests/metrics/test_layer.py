"""Evaluation needs no TensorFlow."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import facetl.evaluation


def test_evaluation_imports_no_tensorflow():
    modules = [module.name for module in pkgutil.iter_modules(facetl.evaluation.__path__)]
    assert "verification" in modules
    script = "".join(f"import facetl.evaluation.{module}\n" for module in modules)
    script += "import sys\nassert not {'tensorflow', 'keras', 'matplotlib.pyplot'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
