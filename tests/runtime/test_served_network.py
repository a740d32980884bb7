"""What a process knows of the network: payloads, senders, and sections on every engine."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_networks import RandomNetwork

from ddnn_tf.runtime.network import Codec, Network

SHAPES = st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple)


@given(SHAPES, st.integers(0, 99))
def test_payloads_are_those_of_equation_1_and_come_back_as_they_were(
    shape: tuple[int, ...], seed: int
) -> None:
    random = np.random.default_rng(seed)
    count = int(np.prod(shape))
    arrays = {
        "bits": random.choice([-1.0, 1.0], shape).astype(np.float32),
        "bytes": random.integers(0, 256, shape).astype(np.float32),
        "floats": random.normal(size=shape).astype(np.float32),
    }
    sizes = {"bits": -(-count // 8), "bytes": count, "floats": 4 * count}
    for kind, array in arrays.items():
        codec = Codec(shape, kind)
        payload = codec.encode(array)
        assert len(payload) == codec.size == sizes[kind]
        np.testing.assert_array_equal(codec.decode(payload), array[None])
        with pytest.raises(ValueError, match=f"Expected {codec.size} bytes"):
            codec.decode(payload + b"x")


def test_numbers_that_are_none_are_refused() -> None:
    for value in (np.nan, np.inf, -np.inf):
        with pytest.raises(ValueError, match="finite"):
            Codec((2,), "floats").decode(np.array([0, value], "<f4").tobytes())


@pytest.mark.slow
def test_senders_and_what_they_send(network_of: Callable[..., RandomNetwork]) -> None:
    raw, two = Network(network_of("a").bundle), Network(network_of("f").bundle)
    assert not raw.has_local
    assert raw.codec_to("cloud", "device_0") == Codec((32, 32, 3), "bytes")
    assert two.senders("cloud") == ("edge_0", "edge_1")
    assert [two.upper_of(name) for name in two.topology.device_names].count("edge_1") >= 1
    assert set(two.senders("edge_0")) | set(two.senders("edge_1")) == set(two.topology.device_names)
    assert two.codec_to("edge_0", "device_0").kind == two.codec_to("cloud", "edge_0").kind == "bits"
    assert raw.fingerprint != two.fingerprint == Network(network_of("f").bundle).fingerprint


@pytest.mark.slow
def test_a_device_answers_alike_on_every_engine(network_of: Callable[..., RandomNetwork]) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    made = network_of("c")
    network = Network(made.with_c(["device_0"]))
    images = {"device_0": made.images[:50, 0].astype(np.float32)}
    answers = {engine: network.runner("device_0", engine)(images) for engine in ("tflite", "c", "keras")}
    for answer in answers.values():
        np.testing.assert_array_equal(answer["features"], answers["keras"]["features"])
        np.testing.assert_allclose(answer["class_vector"], answers["keras"]["class_vector"], atol=1e-4)
    with pytest.raises(ValueError, match="holds no 'device_1' for 'c': export it with --target c"):
        network.runner("device_1", "c")
    with pytest.raises(ValueError, match="Expected the engine to be one of tflite, c, keras, but got 'lce'"):
        network.runner("device_0", "lce")


@pytest.mark.slow
def test_a_process_that_serves_tflite_needs_no_tensorflow(
    network_of: Callable[..., RandomNetwork], tmp_path: Path
) -> None:
    bundle = network_of("c").write(tmp_path / "bundle.zip")
    code = (
        "import sys, ddnn_tf.cli\n"
        "from ddnn_tf.runtime import aggregator, cluster, client, dashboard, gateway, process, upper\n"
        "from ddnn_tf.runtime.network import Network\n"
        f"network = Network.read({str(bundle)!r})\n"
        "for name in ('device_0', 'local', 'cloud'): network.runner(name)\n"
        "assert 'tensorflow' not in sys.modules and 'larq' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
