"""Models saved by Keras are loaded, or refused in one sentence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import ddnn_tf
from ddnn_tf.schemes import SCHEMES, Scheme, zero
from ddnn_tf.topology import Topology


class Sum(tf.keras.layers.Layer):
    """The layer of a plug-in's scheme, which is not registered with Keras."""

    def call(self, inputs: list[tf.Tensor], present: tf.Tensor | None = None) -> tf.Tensor:
        return tf.add_n(inputs)


@pytest.mark.parametrize("name", ["model.keras", "model.h5", "directory"])
def test_the_same_network_with_its_optimizer(
    name: str, tiny_topology: Topology, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(SCHEMES._parts, "SUM", Scheme("SUM", False, zero, f"{__name__}:Sum"))
    cloud = tiny_topology.cloud.model_copy(update={"aggregation": "SUM"})
    model = ddnn_tf.build(tiny_topology.replace(cloud=cloud))
    model.compile(tf.keras.optimizers.Adam(0.125), "sparse_categorical_crossentropy")
    model.save(tmp_path / name)
    loaded = ddnn_tf.load_model(tmp_path / name)
    inputs = {device: np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1)) for device in model.input_names}
    for expected, found in zip(model.predict(inputs), loaded.predict(inputs), strict=True):
        assert np.array_equal(expected, found)
    assert loaded.optimizer.learning_rate.numpy() == 0.125


def test_what_cannot_be_loaded_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no model '.*none\.keras': save one"):
        ddnn_tf.load_model(tmp_path / "none.keras")
    (tmp_path / "bad.keras").write_bytes(b"no model")
    with pytest.raises(ValueError, match=r"bad\.keras' is not a Keras model that can be read: "):
        ddnn_tf.load_model(tmp_path / "bad.keras")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.keras").touch()
    with pytest.raises(ValueError, match=r"is a run directory: load its network, '.*run/model\.keras'"):
        ddnn_tf.load_model(tmp_path / "run")
    tf.saved_model.save(tf.Module(), str(tmp_path / "function"))
    with pytest.raises(ValueError, match="a SavedModel of a function, not a Keras model"):
        ddnn_tf.load_model(tmp_path / "function")


def test_a_model_of_keras_3_is_told_apart(tmp_path: Path) -> None:
    code = "import keras, sys; keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, tmp_path / "m.keras"], check=True, capture_output=True)
    with pytest.raises(ValueError, match="saved by Keras 3, but Larq and ddnn_tf need one of Keras 2"):
        ddnn_tf.load_model(tmp_path / "m.keras")
