"""Folders that TensorFlow's own input and output cannot name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from facetl._tensorflow import path_for_tensorflow


@pytest.mark.skipif(os.name == "nt", reason="names there are Unicode")
def test_a_folder_that_is_no_utf8_is_written_and_read(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")) / "new"
    module = tf.Module()
    module.number = tf.Variable(7.0)
    with path_for_tensorflow(folder) as path:
        tf.saved_model.save(module, path)
    assert (folder / "saved_model.pb").is_file()
    with path_for_tensorflow(folder) as path:
        assert float(np.asarray(tf.saved_model.load(path).number)) == 7.0
    with path_for_tensorflow(tmp_path / "café") as path:
        assert path == str(tmp_path / "café")


def test_an_import_of_photos_starts_tensorflow_quietly(tmp_path: Path) -> None:
    """Whoever imports TensorFlow before `start_tensorflow` does lets its log through."""
    code = (
        "import os, sys, traceback\n"
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name in ('tensorflow', 'keras'):\n"
        "            os._exit(7 if 'start_tensorflow' in {frame.name for frame in traceback.extract_stack()} else 8)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from facetl.cli.app import main; main()"
    )
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    (tmp_path / "photos").mkdir()
    command = [sys.executable, "-c", code, "people", "import", "photos", "--library", "library", "--run", "run"]
    done = subprocess.run([*command, "--detector", "none"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 7, done.stderr
