from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from ddnn_tf.datasets import DataSource, MultiViewDataset
from ddnn_tf.network import build
from ddnn_tf.optimization import Optimized
from ddnn_tf.runs import train_run
from ddnn_tf.topology import Cloud, Topology
from ddnn_tf.training import TrainingOptions, train

OPTIONS = TrainingOptions(epochs=10, batch_size=8, learning_rate=0.01, seed=5)


@pytest.fixture
def mixed(tiny_topology: Topology) -> Topology:
    return tiny_topology.replace(cloud=Cloud(filters=(8,), hidden=(6,), precision="float"))


def answers(model: tf.keras.Model, data: MultiViewDataset) -> np.ndarray:
    return model.predict(data.inputs("test"), verbose=0)[1]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["quantization_aware", "sparsity"])
def test_trained_weights_go_back_into_the_plain_network(
    kind: str, mixed: Topology, tiny_data: MultiViewDataset
) -> None:
    tf.keras.utils.set_random_seed(0)
    model = build(mixed)
    wrapped = Optimized(model, **{kind: 0.6 if kind == "sparsity" else True})
    assert wrapped.model.output_names == ["local", "cloud"]
    train(wrapped.model, tiny_data, options=OPTIONS, callbacks=wrapped.callbacks)
    wrapped.finish()
    accuracy = (answers(model, tiny_data).argmax(1) == tiny_data.targets("test")).mean()
    assert accuracy > 0.6
    difference = np.abs(answers(model, tiny_data) - answers(wrapped.model, tiny_data)).max()
    # Pruning is the same network; rounding to 8 bits is nearly.
    assert difference < (1e-5 if kind == "sparsity" else 0.2)
    kernels = {
        layer.name: layer.kernel.numpy()
        for layer in model.layers
        if layer.name in ("cloud_convp_0_conv", "cloud_fc_0_dense", "cloud_exit_dense")
    }
    assert len(kernels) == 3
    for name, kernel in kernels.items():
        zeros = (kernel == 0).mean()
        assert zeros == pytest.approx(0.6, abs=0.1) if kind == "sparsity" else zeros < 0.1, name


@pytest.mark.slow
def test_a_run_keeps_how_it_was_optimized(
    mixed: Topology, tiny_source: DataSource, tiny_data: MultiViewDataset, tmp_path: Path
) -> None:
    options = replace(OPTIONS, epochs=1)
    train_run(tmp_path / "run", mixed, tiny_source, tiny_data, options, sparsity=0.5)
    assert '"sparsity": 0.5' in (tmp_path / "run" / "run.json").read_text()
    assert not list((tmp_path / "run").glob("*.checkpoint.npz"))


def test_bad_requests_are_refused(mixed: Topology, tiny_topology: Topology) -> None:
    with pytest.raises(ValueError, match="no float blocks"):
        Optimized(build(tiny_topology), quantization_aware=True)
    with pytest.raises(ValueError, match="but got both"):
        Optimized(build(mixed), quantization_aware=True, sparsity=0.5)
    with pytest.raises(ValueError, match=r"1 excluded, but got 1\.5"):
        Optimized(build(mixed), sparsity=1.5)
