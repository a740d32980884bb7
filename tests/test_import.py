"""What a newcomer meets first: importing the package beside TensorFlow."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import ddnn_tf
from ddnn_tf.network import build, with_presence
from ddnn_tf.topology import Topology


def run(code: str) -> subprocess.CompletedProcess[str]:
    # A clean environment, as in a user's shell: nothing set by this test run's own import.
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/tmp"}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )


def test_import_alone_does_not_import_tensorflow() -> None:
    result = run("import ddnn_tf, sys; print('tensorflow' in sys.modules)")
    assert result.stdout.strip() == "False", result.stderr


@pytest.mark.slow
def test_selects_keras_2_and_keeps_tensorflow_quiet() -> None:
    result = run(
        "import ddnn_tf, tensorflow as tf, larq\n"
        "model = ddnn_tf.build(ddnn_tf.Topology.device_cloud())\n"
        "model.compile('sgd', 'sparse_categorical_crossentropy')\n"
        "model.predict(tf.zeros((1, 32, 32, 3)), verbose=0)\n"
        "print(tf.keras.Model.__module__.split('.')[0])"
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "tf_keras"
    assert result.stderr == ""


@pytest.mark.slow
def test_errors_of_a_broken_tensorflow_still_reach_the_user() -> None:
    result = run(
        "import ddnn_tf, sys\n"
        "sys.modules['tensorflow.python.tools'] = None\n"  # makes TensorFlow's own import fail
        "import tensorflow"
    )
    assert result.returncode == 1
    assert "ModuleNotFoundError" in result.stderr or "ImportError" in result.stderr


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A network with every layer of the package, in the formats that name layers and hold no code."""
    topology = Topology.devices_edge_cloud(
        devices=2, filters=2, local="AP", upper="MP", image_shape=(8, 8, 1)
    )
    topology = topology.replace(cloud=topology.cloud.model_copy(update={"aggregation": "CC"}))
    model = with_presence(build(topology), topology)
    model.compile("sgd", "sparse_categorical_crossentropy")
    places = [tmp_path_factory.mktemp("saved") / name for name in ("m.keras", "m.h5")]
    for place in places:
        model.save(place)
    return places


LOAD = """
for place in {places}:
    model = tf.keras.models.load_model(place)
    assert type(model.get_layer("device_0_convp_0_conv")).__module__ == "larq.layers"
    assert type(model.get_layer("device_0_convp_0_pool")).__module__ == "ddnn_tf.blocks"
    assert type(model.get_layer("cloud_aggregation")).__module__ == "ddnn_tf.aggregation"
"""
TRAIN = """
model = ddnn_tf.build(ddnn_tf.Topology.device_cloud())
model.compile('sgd', 'sparse_categorical_crossentropy')
model.fit(tf.zeros((2, 32, 32, 3)), {'local': tf.zeros(2), 'cloud': tf.zeros(2)}, verbose=0)
from tensorflow.keras import layers
print(tf.keras.Model.__module__, layers.Dense.__module__, tf.optimizers.Adam.__module__)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "imports",
    [
        "import ddnn_tf, larq\nimport tensorflow as tf",
        "import ddnn_tf, tf_keras\nimport tensorflow as tf",
        "import tensorflow as tf\nimport ddnn_tf",
        "from tensorflow import keras\nimport tensorflow as tf\nimport ddnn_tf",
        # A program's own Keras 3 is no obstacle as long as `tf.keras` is not.
        "import keras\nkeras.Sequential([keras.layers.Dense(1)])\nimport ddnn_tf\nimport tensorflow as tf",
        "import os\nos.environ['TF_USE_LEGACY_KERAS'] = '1'\nimport larq, ddnn_tf\nimport tensorflow as tf",
    ],
)
def test_a_network_is_loaded_and_trained_whatever_is_imported_first(imports: str, saved: list[Path]) -> None:
    result = run(imports + LOAD.format(places=[str(place) for place in saved]) + TRAIN)
    assert result.returncode == 0, result.stderr
    assert all(module.startswith("tf_keras.") for module in result.stdout.split())


@pytest.mark.slow
@pytest.mark.parametrize(
    "used",
    [
        "import tensorflow as tf\ntf.keras.layers.Dense(1)",
        "import tensorflow as tf\ntf.optimizers.Adam()",
        "from tensorflow.keras import layers",
        # Larq itself fails with Keras 3; in a notebook the next cell goes on.
        "try:\n    import larq\nexcept AttributeError:\n    pass",
    ],
)
def test_tf_keras_used_before_with_keras_3_is_refused(used: str) -> None:
    result = run(f"{used}\nimport ddnn_tf")
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: TensorFlow runs with Keras 3 already")
    assert "import `ddnn_tf` before `tf.keras` is used and before `larq` is imported" in last


def test_public_names_resolve() -> None:
    for _ in range(2):  # importing a module sets an attribute of the package: it must not shadow a name
        for name, home in ddnn_tf._HOME.items():
            module = importlib.import_module(f"ddnn_tf.{home}")
            assert getattr(ddnn_tf, name) is getattr(module, name)
    assert "build" in dir(ddnn_tf)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = ddnn_tf.nonsense
