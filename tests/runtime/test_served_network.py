"""What a process reads of the network, and its sections on every engine."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from random_networks import RandomNetwork
from running import served

from ddnn_tf.bundle import write_bundle
from ddnn_tf.runtime.served import ServedNetwork


@pytest.mark.slow
def test_a_process_reads_only_its_own_section(
    network_of: Callable[..., RandomNetwork], tmp_path: Path
) -> None:
    bundle = network_of("c").write(tmp_path / "bundle")
    for file in ("cloud/tflite.tflite", "local/tflite.tflite", "device_1/tflite.tflite", "weights.npz"):
        (bundle / file).write_bytes(b"damaged")
    network = ServedNetwork.read(bundle)
    outputs = network.runner("device_0")({"device_0": np.zeros((1, 32, 32, 3))})
    assert set(outputs) == {"features", "class_vector"}
    with pytest.raises(ValueError, match=r"cloud/tflite\.tflite' is not the one that was exported"):
        network.runner("cloud")


@pytest.mark.slow
def test_networks_of_other_weights_have_another_fingerprint(
    network_of: Callable[..., RandomNetwork],
) -> None:
    made = network_of("c")
    weights = [-1 * made.bundle.weights[0], *made.bundle.weights[1:]]
    changed = replace(made.bundle, weights=weights)
    prints = {served(bundle).fingerprint for bundle in (made.bundle, made.bundle, changed)}
    assert len(prints) == 2


@pytest.mark.slow
def test_a_device_answers_alike_on_every_engine(network_of: Callable[..., RandomNetwork]) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    made = network_of("c")
    network = served(made.with_c(["device_0"]))
    images = {"device_0": made.views["device_0"][:50].astype(np.float32)}
    answers = {engine: network.runner("device_0", engine)(images) for engine in ("tflite", "c", "keras")}
    for answer in answers.values():
        np.testing.assert_array_equal(answer["features"], answers["keras"]["features"])
        np.testing.assert_allclose(answer["class_vector"], answers["keras"]["class_vector"], atol=1e-4)
    with pytest.raises(ValueError, match="holds no 'device_1' for 'c', only for tflite: export it"):
        network.runner("device_1", "c")
    with pytest.raises(ValueError, match="Expected the engine to be one of tflite, c, keras, but got 'onnx'"):
        network.runner("device_0", "onnx")
    with pytest.raises(ValueError, match="holds no 'device_0' for 'lce', only for tflite, c: export it"):
        network.runner("device_0", "lce")


@pytest.mark.slow
def test_no_process_imports_tensorflow_for_tflite_or_c(
    network_of: Callable[..., RandomNetwork], tmp_path: Path
) -> None:
    has_compiler = shutil.which("gcc") is not None
    made = network_of("c")
    path = tmp_path / "bundle.zip"
    write_bundle(made.with_c(["device_0"]) if has_compiler else made.bundle, path)
    code = (
        "import sys, numpy, ddnn_tf.cli\n"
        "from ddnn_tf.runtime import aggregator, cluster, client, dashboard, gateway, process, unit, upper\n"
        "from ddnn_tf.runtime.sensors import open_sensor\n"
        "from ddnn_tf.runtime.served import ServedNetwork\n"
        f"network = ServedNetwork.read({str(path)!r})\n"
        "reading = open_sensor('data', network, 'device_0').read(0)[None].astype('float32')\n"
        f"for engine in {['tflite', 'c'] if has_compiler else ['tflite']}:\n"
        "    network.runner('device_0', engine)({'device_0': reading})\n"
        "for name in ('local', 'cloud'): network.runner(name)\n"
        "found = {'tensorflow', 'larq', 'tf_keras', 'keras'} & set(sys.modules)\n"
        "assert not found, found\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
