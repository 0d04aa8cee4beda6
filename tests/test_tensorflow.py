"""Folders that TensorFlow's own input and output cannot name."""

from __future__ import annotations

import os
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
