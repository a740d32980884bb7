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


def test_progress_is_silent_when_stderr_is_no_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with ProgressBar("ddnn", 2) as bar:
        bar.on_epoch_end(0, {"loss": 1.0, "val_loss": 2.0})
    assert capfd.readouterr() == ("", "")
