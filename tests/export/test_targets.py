"""Each target on small sections: what it gives is what Keras gives."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from ddnn_tf.bundle import Artefact
from ddnn_tf.export.targets import EXACT, TARGETS, Target, Tolerance, micro, register_target
from ddnn_tf.export.targets.micro import c_array
from ddnn_tf.export.targets.tflite import Tflite
from ddnn_tf.export.verify import Verifier
from ddnn_tf.network import build
from ddnn_tf.sections import Arrays, Section, cut, received
from ddnn_tf.topology import Cloud, Devices, Edge, Topology

TOPOLOGY = Topology(
    devices=(Devices(count=2, input=(12, 12, 3), filters=(4,)),),
    edges=(Edge(name="edge_0", senders=("device",), filters=(32,)),),
    cloud=Cloud(filters=(32,)),
)
SAMPLES = 60


def sections_of(topology: Topology, on_codes: float = 700, above: float = 6) -> dict[str, Section]:
    """Sections with statistics as after a training: sums of codes reach farther than those above."""
    tf.keras.utils.set_random_seed(3)
    model = build(topology)
    random = np.random.default_rng(0)
    norms_of_codes = {
        f"{node.name}_{block}_0_norm" for node in topology.hierarchy.devices for block in ("convp", "units")
    }
    for layer in model.layers:
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            size = layer.gamma.shape[0]
            reach = on_codes if layer.name in norms_of_codes else above
            weights = [random.normal(size=size), random.normal(size=size), random.normal(size=size) * reach]
            layer.set_weights([*weights, random.random(size) * reach**2 + 1])
    return cut(model, topology)


def views_of(topology: Topology, samples: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    return {
        node.name: random.integers(0, 256, (samples, *node.sensor.shape), dtype=np.uint8)
        for node in topology.hierarchy.devices
    }


@pytest.fixture(scope="module")
def sections() -> dict[str, Section]:
    return sections_of(TOPOLOGY)


@pytest.fixture(scope="module")
def views() -> dict[str, np.ndarray]:
    return views_of(TOPOLOGY, SAMPLES)


@pytest.fixture(scope="module")
def inputs(sections: dict[str, Section], views: dict[str, np.ndarray]) -> dict[str, Arrays]:
    return received(TOPOLOGY, sections, views)


ON_DEVICES = {"micro", "micro-int8", "micro-int16", "c", "c-fixed"}
CASES = [
    (name, section)
    for name in TARGETS
    for section in ("device_0", "local", "edge_0", "cloud")
    if (name not in ON_DEVICES or section == "device_0") and (name != "savedmodel" or section == "cloud")
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
    words = packed.predict([inputs["edge_0"][sender] for sender in artefact.details["inputs"]])
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


def test_a_file_that_crashes_tflm_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The child is made to crash as TFLM crashes running some int8 graphs: by a signal, without a word."""
    run = subprocess.run

    def crashing(command: list[str], **options: object) -> object:
        return run([sys.executable, "-c", "import os; os.kill(os.getpid(), 11)"], **options)  # type: ignore[call-overload]

    monkeypatch.setattr(micro.subprocess, "run", crashing)
    with pytest.raises(ValueError, match=r"crashed \(SIGSEGV\) running 'device_0' \(micro\)"):
        micro.run_in_child(b"", {"device_0": np.zeros((1, 12, 12, 3))}, ["features"], "device_0", "micro")


def test_a_file_that_tflm_refuses_is_an_error() -> None:
    inputs = {"device_0": np.zeros((1, 12, 12, 3))}
    with pytest.raises(ValueError, match=r"'device_0' \(micro\)"):
        micro.run_in_child(b"no model", inputs, ["features"], "device_0", "micro")


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
    assert TARGETS[name].extra == extra
    with pytest.raises(ImportError, match=rf"ddnn_tf\[{extra}\]"):
        TARGETS[name].runner(artefact)


def test_an_artefact_beyond_its_tolerance_does_not_pass(
    sections: dict[str, Section], views: dict[str, np.ndarray]
) -> None:
    labels = np.random.default_rng(2).integers(0, 3, SAMPLES)
    verifier = Verifier(TOPOLOGY, {"local": 0.5, "edge": 0.5}, sections, views, labels, SAMPLES)

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


def test_accuracy_is_measured_on_test_samples_alone(
    sections: dict[str, Section], views: dict[str, np.ndarray]
) -> None:
    class Keras(Tflite):
        def runner(self, artefact: Artefact):  # type: ignore[no-untyped-def]
            return sections["device_0"].run

    artefact = Artefact("device_0", "tflite", {"tflite.tflite": b""}, {"has_bits": True})
    thresholds = {"local": 0.5, "edge": 0.5}
    whole = Verifier(TOPOLOGY, thresholds, sections, views, np.zeros(SAMPLES, np.int64), SAMPLES)
    share = whole.verify(artefact, Keras()).accuracy
    assert 0 < share < 1
    # Right on the first 10 samples, the test samples; wrong on those that fill up.
    rows = np.argsort(whole._expected.labels, kind="stable")
    labels = np.where(np.arange(SAMPLES) < 10, whole._expected.labels[rows], 3)
    shuffled = {device: view[rows] for device, view in views.items()}
    result = Verifier(TOPOLOGY, thresholds, sections, shuffled, labels, 10).verify(artefact, Keras())
    assert (result.accuracy, result.accuracy_samples, result.samples) == (1.0, 10, SAMPLES)


def test_targets_carry_their_tolerance() -> None:
    steps = {"decisions": None, "accuracy": 0.005}
    assert {name: TARGETS[name].tolerance for name in TARGETS} == {
        "tflite": EXACT,
        "lce": EXACT,
        "savedmodel": EXACT,
        "micro": EXACT,
        "c": EXACT,
        "c-fixed": Tolerance(bits=1.0, decisions=0.998, accuracy=0.002),
        "micro-int16": Tolerance(bits=0.9999, **steps),  # type: ignore[arg-type]
        "micro-int8": Tolerance(bits=0.995, **steps),  # type: ignore[arg-type]
        "tflite-int8": Tolerance(bits=0.995, **steps),  # type: ignore[arg-type]
    }
    assert Tolerance(bits=1.0, decisions=1.0, accuracy=0.0) == EXACT


def test_of_few_test_samples_one_may_change_unless_none_may() -> None:
    tolerance = Tolerance(bits=0.995, decisions=None, accuracy=0.005)
    assert tolerance.accuracy_on(90) == pytest.approx(1 / 90)
    assert tolerance.accuracy_on(1000) == 0.005
    assert EXACT.accuracy_on(90) == 0


def test_unknown_and_second_targets_are_refused() -> None:
    with pytest.raises(ValueError, match=r"export target to be one of .*tflite.*, but got 'onnx'"):
        TARGETS["onnx"]
    with pytest.raises(ValueError, match=r"new name for the export target .*, but 'tflite' is registered"):
        register_target(Tflite())


# A microphone's series goes through a convolution of one dimension, numbers of a sensor through FC blocks.
# The edge `wall` joins series, `desk` what adapters make of an image and a vector; the cloud joins vectors.
UNLIKE = Topology.from_yaml("""
devices:
- {name: camera, input: [10, 8, 3], filters: [4]}
- {name: microphone, count: 2, input: [12, 2], filters: [3]}
- {name: co2, input: [5], units: [6]}
edges:
- {name: wall, senders: [microphone], filters: [8]}
- {name: desk, senders: [camera, co2], adapter: [4, 3], filters: [6], exit: false}
cloud: {adapter: [16], units: [24]}
classes: 3
""")


@pytest.fixture(scope="module")
def unlike_sections() -> dict[str, Section]:
    return sections_of(UNLIKE, on_codes=300, above=3)


@pytest.fixture(scope="module")
def verifier(unlike_sections: dict[str, Section]) -> Verifier:
    samples = 500
    labels = np.random.default_rng(2).integers(0, 3, samples)
    # Between two entropies, so that the last digits of no engine decide.
    thresholds = {"local": 0.378, "edge": 0.58}
    made = Verifier(UNLIKE, thresholds, unlike_sections, views_of(UNLIKE, samples), labels, samples)
    shares = np.bincount(made._expected.exits, minlength=3) / samples
    assert (shares > 0.05).all(), shares
    return made


UNLIKE_CASES = [
    (name, node.name)
    for name in TARGETS
    for node in UNLIKE.hierarchy.sections
    if node.name != "microphone_1"
    and (name not in ON_DEVICES or node.name in UNLIKE.hierarchy.device_names)
    and (name != "savedmodel" or node.name == "cloud")
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "section"), UNLIKE_CASES)
def test_unlike_sections_pass_on_every_target(
    name: str, section: str, unlike_sections: dict[str, Section], verifier: Verifier
) -> None:
    target = TARGETS[name]
    assert target.takes(unlike_sections[section])
    artefact = target.convert(unlike_sections[section], verifier.inputs[section])
    result = verifier.verify(artefact, target)
    assert result.passed, result
    assert (result.bit_agreement is None) == (not unlike_sections[section].has_bits)
    if section in UNLIKE.hierarchy.device_names:
        assert result.bit_agreement == 1
    if name == "lce" and unlike_sections[section].has_bits:
        assert _packed_bits(artefact, verifier.inputs[section]) == 1


def _packed_bits(artefact: Artefact, inputs: Arrays) -> float:
    """Share of the bits in the words of `lce-packed.tflite` that are the features of `lce.tflite`."""
    from larq_compute_engine.tflite.python.interpreter import Interpreter

    some = {sender: array[:20] for sender, array in inputs.items()}
    given = [some[sender] for sender in artefact.details["inputs"]]
    words = Interpreter(artefact.files["lce-packed.tflite"]).predict(given if len(given) > 1 else given[0])
    words = np.asarray(words[0] if isinstance(words, list) else words)
    assert words.dtype == np.int32
    features = TARGETS["lce"].runner(artefact)(some)["features"]
    # A packed row is a pixel, a step, or all units of an FC block.
    bits = np.unpackbits(words.view(np.uint8).reshape(-1, 4), axis=1, bitorder="little")
    rows = features.reshape(-1, features.size // len(bits))
    return float((np.where(bits[:, : rows.shape[1]], -1, 1) == rows).mean())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tflite", "tflite-int8", "lce"])
@pytest.mark.parametrize("scheme", ["MP", "AP", "CC"])
@pytest.mark.parametrize(
    ("device", "cloud"),
    [
        ({"input": (9, 7, 1), "filters": (5,)}, {"filters": (6,)}),
        ({"input": (12, 2), "filters": (5,)}, {"filters": (6,)}),
        ({"input": (5,), "units": (6,)}, {"units": (6,)}),
    ],
    ids=["image", "series", "vector"],
)
def test_a_join_converts_whatever_it_joins(
    device: dict[str, Any], cloud: dict[str, Any], scheme: str, name: str
) -> None:
    """TensorFlow's converter turns some ways to join feature maps into a reshape that mixes them up."""
    topology = Topology(devices=(Devices(count=3, **device),), cloud=Cloud(aggregation=scheme, **cloud))
    sections = sections_of(topology, on_codes=300, above=3)
    inputs = received(topology, sections, views_of(topology, SAMPLES))["cloud"]
    artefact = TARGETS[name].convert(sections["cloud"], inputs)
    answer = TARGETS[name].runner(artefact)(inputs)["logits"]
    expected = sections["cloud"].run(inputs)["logits"]
    if TARGETS[name].tolerance == EXACT:
        assert np.allclose(answer, expected, atol=1e-4)
    else:
        assert (np.abs(answer - expected) < 0.1 * np.abs(expected).max()).mean() > 0.9
        assert (answer.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.9
