"""Each target on small sections: what it gives is what Keras gives."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from ddnn_tf.export import micro
from ddnn_tf.export.artefact import Artefact, Target
from ddnn_tf.export.litert import Tflite
from ddnn_tf.export.micro import c_array
from ddnn_tf.export.pipeline import TARGETS, choose, received
from ddnn_tf.export.verify import BARS, Verifier
from ddnn_tf.network import build
from ddnn_tf.sections import Arrays, Section, cut
from ddnn_tf.topology import Cloud, Devices, Edge, Topology

TOPOLOGY = Topology(
    devices=Devices(count=2, image_shape=(12, 12, 3), filters=4),
    edges=(Edge(devices=(0, 1), filters=(32,)),),
    cloud=Cloud(filters=(32,)),
)
SAMPLES = 60


@pytest.fixture(scope="module")
def sections() -> dict[str, Section]:
    tf.keras.utils.set_random_seed(3)
    model = build(TOPOLOGY)
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            size = layer.gamma.shape[0]
            reach = 700 if layer.name.startswith("device") and "convp" in layer.name else 6
            weights = [random.normal(size=size), random.normal(size=size), random.normal(size=size) * reach]
            layer.set_weights([*weights, random.random(size) * reach**2 + 1])
    return cut(model, TOPOLOGY)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (SAMPLES, 2, 12, 12, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def inputs(sections: dict[str, Section], images: np.ndarray) -> dict[str, Arrays]:
    return received(TOPOLOGY, sections, images)


CASES = [
    (name, section)
    for name in TARGETS
    for section in ("device_0", "local", "edge_0", "cloud")
    if (name.split("-")[0] not in ("micro", "c") or section == "device_0")
    and (name != "savedmodel" or section == "cloud")
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "section"), CASES)
def test_an_artefact_gives_what_keras_gives(
    name: str, section: str, sections: dict[str, Section], inputs: dict[str, Arrays]
) -> None:
    target: Target = TARGETS[name]
    assert target.takes(sections[section])
    artefact = target.convert(sections[section], inputs[section])
    found = target.runner(artefact)(inputs[section])
    expected = sections[section].run(inputs[section])
    assert set(found) == set(expected)
    is_exact = "int" not in name
    if name == "c":
        assert np.array_equal(found["class_vector"], expected["class_vector"])
    for output, values in expected.items():
        if output == "features":
            share = (found[output] == values).mean()
            assert share == 1 if is_exact or section == "device_0" else share > 0.97
        elif is_exact:
            assert np.allclose(found[output], values, atol=1e-4)
        else:
            # Above the devices a bit may fall on the other side, and takes a logit or two with it.
            close = np.abs(found[output] - values) < 0.1 * np.abs(values).max()
            assert close.mean() > 0.9


@pytest.mark.slow
def test_binary_layers_stay_binary_in_lce(sections: dict[str, Section], inputs: dict[str, Arrays]) -> None:
    artefact = TARGETS["lce"].convert(sections["edge_0"], inputs["edge_0"])
    assert artefact.details["binary_layers"] == ["edge_0_exit_dense"]
    assert artefact.details["real_valued_layers"] == {"edge_0_convp_0_conv": "takes real numbers"}
    assert artefact.details["operators"].count("LceBconv2d") == 1
    from larq_compute_engine.tflite.python.interpreter import Interpreter

    packed = Interpreter(artefact.files["lce-packed.tflite"])
    images = inputs["edge_0"]
    words = packed.predict(
        [images[name] for name in sorted(images)] if len(images) > 1 else images["device_0"]
    )
    words = words[0] if isinstance(words, list) else words
    assert words.dtype == np.int32
    assert words.shape == (SAMPLES, 3, 3, 1)


@pytest.mark.slow
def test_tflm_operators_and_c_form(sections: dict[str, Section], inputs: dict[str, Arrays]) -> None:
    artefact = TARGETS["micro-int8"].convert(sections["device_1"], inputs["device_1"])
    assert "SIGN" not in artefact.details["operators"]
    header, source = artefact.files["micro-int8.h"].decode(), artefact.files["micro-int8.cc"].decode()
    arena = int(re.search(r"arena_bytes = (\d+);", header).group(1))  # type: ignore[union-attr]
    assert arena >= artefact.details["arena_bytes"] > 0
    numbers = bytes(int(byte, 16) for byte in re.findall(r"0x([0-9a-f]{2}),", source))
    assert numbers == artefact.content


def test_c_array_of_a_few_bytes() -> None:
    header, source = c_array(bytes(range(14)), "model", 33)
    assert b"constexpr unsigned int model_bytes = 14;" in header
    assert b"model_arena_bytes = 48;" in header
    assert source.count(b"0x") == 14


def test_a_file_that_kills_tflm_is_an_error(
    monkeypatch: pytest.MonkeyPatch, sections: dict[str, Section]
) -> None:
    """The child is made to die as TFLM dies of some int8 graphs: by a signal, without a word."""
    run = subprocess.run

    def dying(command: list[str], **options: object) -> object:
        return run([sys.executable, "-c", "import os; os.kill(os.getpid(), 11)"], **options)  # type: ignore[call-overload]

    monkeypatch.setattr(micro.subprocess, "run", dying)
    with pytest.raises(ValueError, match=r"died of 'device_0' \(micro\) with SIGSEGV"):
        micro.run_in_child(b"", {"device_0": np.zeros((1, 12, 12, 3))}, "device_0", "micro")


def test_a_file_that_tflm_refuses_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"'device_0' \(micro\)"):
        micro.run_in_child(b"no model", {"device_0": np.zeros((1, 12, 12, 3))}, "device_0", "micro")


def test_integers_need_samples(sections: dict[str, Section]) -> None:
    with pytest.raises(ValueError, match="to calibrate int8 with, but got none for 'cloud'"):
        Tflite("int8").convert(sections["cloud"], {})


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [("tflite", "ai_edge_litert", "tflite"), ("lce", "larq_compute_engine", "lce")],
)
def test_a_missing_engine_names_its_extra(
    monkeypatch: pytest.MonkeyPatch, sections: dict[str, Section], name: str, module: str, extra: str
) -> None:
    for loaded in [each for each in sys.modules if each.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)
    artefact = Artefact("device_0", name, {"x": b""}, {"has_bits": True})
    with pytest.raises(ImportError, match=rf"ddnn_tf\[{extra}\]"):
        TARGETS[name].runner(artefact)


def test_an_artefact_that_misses_its_bar_does_not_pass(
    sections: dict[str, Section], images: np.ndarray
) -> None:
    labels = np.random.default_rng(2).integers(0, 3, SAMPLES)
    verifier = Verifier(TOPOLOGY, {"local": 0.5, "edge": 0.5}, sections, images, labels)

    class Wrong(Tflite):
        def __init__(self, flips: int) -> None:
            super().__init__()
            self.flips = flips

        def runner(self, artefact: Artefact):  # type: ignore[no-untyped-def]
            def run(inputs: Arrays) -> Arrays:
                answer = {name: values.copy() for name, values in sections["device_0"].run(inputs).items()}
                answer["features"].reshape(-1)[: self.flips] *= -1
                return answer

            return run

    artefact = Artefact("device_0", "tflite", {"tflite.tflite": b"12345"}, {"has_bits": True})
    good = verifier.verify(artefact, Wrong(0))
    assert (good.passed, good.bit_agreement, good.decision_agreement, good.bytes) == (True, 1.0, 1.0, 5)
    assert good.max_logit_error == 0
    bad = verifier.verify(artefact, Wrong(1))
    assert not bad.passed
    assert bad.bit_agreement == pytest.approx(1 - 1 / (SAMPLES * 6 * 6 * 4))


def test_every_target_has_a_bar_and_unknown_names_list_the_known() -> None:
    assert set(BARS) == set(TARGETS)
    assert choose("target", ["lce", "tflite"], list(TARGETS)) == ["tflite", "lce"]
    with pytest.raises(ValueError, match=r"target out of tflite, tflite-int8.*but got 'onnx'"):
        choose("target", ["onnx"], list(TARGETS))
    with pytest.raises(ValueError, match="at least one section"):
        choose("section", [], ["local"])
