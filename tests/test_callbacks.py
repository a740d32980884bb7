from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from ddnn_tf.callbacks import BatchStatistics, ProgressBar
from ddnn_tf.datasets import MultiViewDataset
from ddnn_tf.network import build
from ddnn_tf.topology import Topology


def test_batch_statistics_are_exact(tiny_topology: Topology, tiny_data: MultiViewDataset) -> None:
    model = build(tiny_topology)
    inputs = tiny_data.inputs("train")
    model.compile("adam", "sparse_categorical_crossentropy")
    labels = {name: tiny_data.targets("train") for name in model.output_names}
    model.fit(inputs, labels, epochs=2, batch_size=7, verbose=0, callbacks=[BatchStatistics(inputs)])
    norm = model.get_layer("device_0_convp_0_norm")
    pooled = tf.keras.Model(model.inputs, norm.input).predict(inputs, verbose=0)
    assert np.allclose(norm.moving_mean, pooled.mean((0, 1, 2)), rtol=1e-4)
    count = pooled[..., 0].size
    assert np.allclose(norm.moving_variance, pooled.var((0, 1, 2)) * count / (count - 1), rtol=1e-3)
    assert norm.momentum == 0.9


def test_training_inputs_that_are_no_codes_are_warned_of() -> None:
    with pytest.warns(UserWarning, match=r"'device_0' is trained on 0\.\.1, not on whole codes 0\.\.255"):
        BatchStatistics({"device_0": np.linspace(0, 1, 20)})


@pytest.mark.parametrize("kind", ["names", "tuple", "one array", "inputs only", "inputs and targets"])
def test_batch_statistics_of_everything_that_fit_takes(kind: str) -> None:
    random = np.random.default_rng(0)
    left, right = random.integers(0, 256, (2, 50, 4)).astype(np.float32)
    inputs = [tf.keras.Input((4,), name=name) for name in ("left", "right")]
    norm = tf.keras.layers.BatchNormalization()
    if kind == "one array":
        model = tf.keras.Model(inputs[0], norm(inputs[0]))
        samples: object = left
    else:
        model = tf.keras.Model(inputs, norm(tf.keras.layers.Add()(inputs)))
        samples = {"right": right, "left": left} if kind == "names" else (left, right)
    if kind == "inputs only":
        samples = tf.data.Dataset.from_tensor_slices((samples,)).batch(7)
    if kind == "inputs and targets":
        samples = tf.data.Dataset.from_tensor_slices((samples, right)).batch(7).repeat()
    statistics = BatchStatistics(samples)
    statistics.set_model(model)
    statistics.on_test_begin()
    seen = left if kind == "one array" else left + right
    if kind == "inputs and targets":  # of an endless data set, as many as are used
        seen = np.concatenate([seen] * 21)[: 7 * 147][:1024]
    assert np.allclose(norm.moving_mean, seen.mean(0), rtol=1e-4)
    assert np.allclose(norm.moving_variance, seen.var(0), rtol=1e-3)


def test_batch_statistics_need_samples() -> None:
    with pytest.raises(ValueError, match="got an empty one"):
        BatchStatistics(tf.data.Dataset.range(0).batch(2))
    with pytest.raises(ValueError, match="got an empty one"):
        BatchStatistics({"left": np.zeros((0, 8, 8, 1), np.uint8)})


def test_each_epoch_is_a_line_where_there_is_no_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with ProgressBar("ddnn", 2) as bar:
        bar.on_epoch_end(0, {"loss": 1.0, "val_loss": 2.0})
        bar.on_epoch_end(1, {"loss": 0.5, "val_loss": 1.5})
    assert capfd.readouterr() == (
        "",
        "ddnn: training ddnn: epoch 1 of 2: loss 1.000, validation 2.000\n"
        "ddnn: training ddnn: epoch 2 of 2: loss 0.500, validation 1.500\n",
    )
    with ProgressBar("ddnn", 2, show=False) as bar:
        bar.on_epoch_end(0, {"loss": 1.0, "val_loss": 2.0})
    assert capfd.readouterr() == ("", "")
