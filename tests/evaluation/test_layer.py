"""Evaluation needs no TensorFlow."""

from __future__ import annotations

import subprocess
import sys


def test_evaluation_imports_no_tensorflow():
    modules = (
        "baselines",
        "bootstrap",
        "groups",
        "metrics",
        "pairs",
        "plots",
        "report",
        "results_table",
        "verification",
    )
    script = "".join(f"import facetl.evaluation.{module}\n" for module in modules)
    script += "import sys\nassert not {'tensorflow', 'keras', 'matplotlib.pyplot'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
