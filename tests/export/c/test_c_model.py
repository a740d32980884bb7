"""`export_c`, `predict`, `save` and `load`, as a user of Keras or Larq meets them."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from binary_models import BINARY, DEVICES, HIDDEN, binary_net, device, layers, pixels, shuffle_norms

from ddnn_tf.bundle import Artefact
from ddnn_tf.export.c import export_c, load
from ddnn_tf.export.c.host import Library
from ddnn_tf.export.c.source import Member, write
from ddnn_tf.export.c.target import C
from ddnn_tf.folding import fold
from ddnn_tf.network import build
from ddnn_tf.sections import Section, cut
from ddnn_tf.specs import Coding
from ddnn_tf.topology import Cloud, Devices, Edge, Topology


def mnist_net() -> tf.keras.Model:
    """Six layers with weights in BinaryNet's order, for 28x28 digits, with fixed random weights."""
    tf.keras.utils.set_random_seed(1)
    model = tf.keras.Sequential(
        [
            layers.Input((28, 28, 1)),
            lq.layers.QuantConv2D(32, 3, **BINARY),
            layers.MaxPooling2D(2),
            layers.BatchNormalization(scale=False),
            lq.layers.QuantConv2D(64, 3, padding="same", pad_values=1.0, **HIDDEN),
            layers.BatchNormalization(),
            lq.layers.QuantConv2D(64, 3, strides=2, **HIDDEN),
            layers.MaxPooling2D(2),
            layers.BatchNormalization(),
            layers.Flatten(),
            lq.layers.QuantDense(128, **HIDDEN),
            layers.BatchNormalization(),
            lq.layers.QuantDense(64, **HIDDEN),
            layers.BatchNormalization(),
            lq.layers.QuantDense(10, **HIDDEN),
            layers.BatchNormalization(),
            layers.Activation("softmax"),
        ],
        name="mnist_net",
    )
    shuffle_norms(model)
    return model


@pytest.mark.slow
def test_a_binary_mnist_net_predicts_what_keras_predicts(tmp_path: Path) -> None:
    model = mnist_net()
    with pytest.warns(UserWarning, match="softmax"):
        exported = export_c(model)
    logits = tf.keras.Model(model.inputs, model.layers[-2].output)
    images = pixels(28, 28, 1, samples=1000)
    expected = logits.predict(images.astype(np.float32), verbose=0)
    found = exported.predict(images.astype(np.float32))
    assert isinstance(found, np.ndarray)
    assert np.array_equal(found, expected)
    assert np.array_equal(found.argmax(axis=1), model.predict(images, verbose=0).argmax(axis=1))
    assert len(np.unique(found.argmax(axis=1))) > 3
    exported.save(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "mnist_net.c", "mnist_net.h", "mnist_net.json",
    ]  # fmt: skip
    assert np.array_equal(load(tmp_path).predict(images), expected)


def digits_net(padding: str) -> tf.keras.Model:
    """The first half of BinaryNet for digits of 8x8 pixels."""
    return tf.keras.Sequential(
        [
            layers.Input((8, 8, 1)),
            lq.layers.QuantConv2D(8, 3, padding=padding, kernel_constraint="weight_clip", **BINARY),
            layers.MaxPooling2D(2),
            layers.BatchNormalization(scale=False, momentum=0.9),
            layers.Flatten(),
            lq.layers.QuantDense(4, kernel_constraint="weight_clip", **HIDDEN),
            layers.BatchNormalization(scale=False, momentum=0.9),
        ],
        name="digits",
    )


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("scale", "offset"), [(1 / 127.5, -1), (1 / 255, 0), (1 / 60, -1.3), (1, 0)])
def test_a_model_trained_on_scaled_pixels_is_as_accurate_in_c(
    scale: float, offset: float, padding: str
) -> None:
    """Bars in four directions, on a bright or dark ground."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, 600)
    bars = np.stack([np.eye(8), np.eye(8)[::-1], np.eye(8)[[3] * 8], np.eye(8)[:, [3] * 8].T])[labels]
    bars[labels == 2] = np.eye(8)[[4] * 8]
    bars[labels == 3] = np.eye(8)[[4] * 8].T
    images = (random.integers(0, 90, (600, 8, 8)) + 160 * bars).astype(np.uint8)[..., None]
    scaled = (scale * images.astype(np.float64) + offset).astype(np.float32)
    tf.keras.utils.set_random_seed(0)
    model = digits_net(padding)
    model.compile(tf.keras.optimizers.Adam(0.02), tf.keras.losses.SparseCategoricalCrossentropy(True))
    model.fit(scaled[:400], labels[:400], epochs=6, batch_size=40, verbose=0)
    logits = model(scaled[400:]).numpy()
    accuracy = np.mean(logits.argmax(axis=1) == labels[400:])
    assert accuracy > 0.7
    if scale == 1:
        exported = export_c(model)  # nothing to declare, and no false alarm
    else:
        with pytest.raises(ValueError, match=r"trained on codes 0\.\.255, but .*`input_scale`"):
            export_c(model)
        exported = export_c(model, input_scale=scale, input_offset=offset)
    found = exported.predict(images[400:])
    assert isinstance(found, np.ndarray)
    assert np.mean(found.argmax(axis=1) == labels[400:]) == accuracy
    assert np.mean(found != logits) < 0.01


def test_a_rescaling_layer_and_a_declared_scale_are_one() -> None:
    """Scaled twice, or scaled once by the product."""
    images = pixels(12, 11, 1)
    model = binary_net()
    rescaled = tf.keras.Sequential([layers.Input((12, 11, 1)), layers.Rescaling(1 / 3, -10), *model.layers])
    found = export_c(rescaled, name="net").predict(images)
    assert np.array_equal(
        found, export_c(model, name="net", input_scale=1 / 3, input_offset=-10).predict(images)
    )
    assert not np.array_equal(found, export_c(model, name="net").predict(images))
    half = export_c(rescaled, name="net", input_scale=1 / 2, input_offset=30)
    whole = export_c(model, name="net", input_scale=1 / 6, input_offset=0)
    assert np.array_equal(half.predict(images), whole.predict(images))
    assert "0.5 times the input plus 30" in half.source.header


def test_named_outputs_come_as_a_dictionary() -> None:
    section = device()
    images = pixels(10, 9, 3)
    expected = section.run({"device_0": images.astype(np.float32)})
    found = export_c(section.model).predict(images)
    assert isinstance(found, dict)
    assert {name: values.dtype for name, values in found.items()} == dict.fromkeys(expected, np.float32)
    assert all(np.array_equal(found[name], values) for name, values in expected.items())


def test_any_number_stands_for_a_bit_where_the_model_binarizes_its_input() -> None:
    model = tf.keras.Sequential([layers.Input((40,)), lq.layers.QuantDense(5, **HIDDEN)])
    values = np.random.default_rng(0).normal(size=(60, 40)).astype(np.float32)
    values[0] = 0
    found = export_c(model, name="net").predict(values)
    assert np.array_equal(found, model.predict(values, verbose=0))


@pytest.mark.parametrize("value", [0.5, -1, 256])
def test_numbers_that_are_no_pixels_are_refused(value: float) -> None:
    exported = export_c(binary_net(), name="net")
    with pytest.raises(ValueError, match=r"whole numbers 0\.\.255"):
        exported.predict(np.full((1, 12, 11, 1), value))
    with pytest.raises(ValueError, match="12, 11, 1"):
        exported.predict(np.zeros((1, 11, 12, 1), np.uint8))


def test_what_is_saved_runs_without_tensorflow(tmp_path: Path) -> None:
    model = binary_net()
    export_c(model, name="net").save(tmp_path / "net")
    images = pixels(12, 11, 1, samples=20)
    np.save(tmp_path / "images.npy", images)
    code = (
        "import sys, numpy; from ddnn_tf.export.c import load\n"
        f"images = numpy.load({str(tmp_path / 'images.npy')!r})\n"
        f"numpy.save({str(tmp_path / 'found.npy')!r}, load({str(tmp_path / 'net')!r}).predict(images))\n"
        "assert 'tensorflow' not in sys.modules and 'jinja2' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    found = np.load(tmp_path / "found.npy")
    assert np.array_equal(found, model.predict(images.astype(np.float32), verbose=0))


def test_what_cannot_be_loaded_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="ddnn export-c"):
        load(tmp_path)
    exported = export_c(binary_net(), name="net")
    exported.save(tmp_path)
    (tmp_path / "net.json").write_text('{"name": "net"}')
    with pytest.raises(ValueError, match="damaged: The description lacks the field 'input_shape'"):
        load(tmp_path)
    exported.save(tmp_path)
    (tmp_path / "net.c").write_text("no C")
    with pytest.raises(OSError, match=r"refuses net\.c: "):
        load(tmp_path).predict(np.zeros((1, 12, 11, 1)))
    export_c(binary_net(), name="other").save(tmp_path)
    with pytest.raises(ValueError, match="holds net, other"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("input_shape", [-1, 11, 1]),
        ("input_shape", [12, 11, 1, 1]),
        ("is_binary", "false"),
        ("name", "../net"),
        ("outputs", [{"name": "output", "kind": "bogus", "shape": [10]}]),
        ("outputs", [{"name": "output", "kind": "bits", "shape": ["a"]}]),
        ("fraction_bits", 40),
    ],
)
def test_a_description_is_checked_field_by_field(field: str, value: object, tmp_path: Path) -> None:
    exported = export_c(binary_net(), name="net")
    exported.save(tmp_path)
    fields = json.loads((tmp_path / "net.json").read_text())
    (tmp_path / "net.json").write_text(json.dumps({**fields, field: value}))
    with pytest.raises(ValueError, match=rf"damaged: .*'{field}"):
        load(tmp_path)


def test_input_and_output_are_as_large_as_described() -> None:
    """Else the C would read or write behind the arrays that Python made for it."""
    source = export_c(binary_net(), name="net").source
    with pytest.raises(ValueError, match="gives 40 bytes, but is described as giving 4"):
        Library(replace(source, outputs=(Member("output", "float32", (1,)),)))
    with pytest.raises(ValueError, match="takes 132 bytes, but is described as taking 12"):
        Library(replace(source, input_shape=(12,)))


def test_a_name_writes_no_c(tmp_path: Path) -> None:
    inner = binary_net()
    model = tf.keras.Sequential([layers.Input((12, 11, 1)), *inner.layers], name="net */ #error injected /*")
    exported = export_c(model, name="net")
    assert "*/ #error" not in exported.source.header
    assert export_c(model).source.name == "net_____error_injected___"
    exported.predict(pixels(12, 11, 1))
    with pytest.raises(ValueError, match="C identifier in lower case, but got 'class'"):
        export_c(model, name="class")


def test_no_samples_give_no_answers() -> None:
    found = export_c(binary_net(), name="net").predict(np.zeros((0, 12, 11, 1), np.uint8))
    assert isinstance(found, np.ndarray)
    assert found.shape == (0, 10)


def test_no_compiler_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FileNotFoundError, match="install gcc or clang, or set CC"):
        Library(write(fold(device().model), "net"))


CODING = Coding(scale=(0.5, 0.125, 3.0), offset=(-20.0, 0.1, 0.0))


def exported(section: Section, target: C | None = None) -> Artefact:
    """The section as an artefact, without boards."""
    patch = pytest.MonkeyPatch()
    patch.setattr("ddnn_tf.export.c.target.emulate_all", lambda *_: {})
    samples = {section.name: pixels(*section.node.sensor.shape, samples=3).astype(np.float32)}
    artefact = (target or C()).convert(section, samples)
    patch.undo()
    return artefact


@pytest.mark.parametrize("target", [C(), C(fixed_point=True)], ids=lambda target: target.name)
@pytest.mark.parametrize("kind", ["image", "series and units", "vector"])
def test_the_target_runs_devices_of_every_kind(kind: str, target: C) -> None:
    shape, filters, units = DEVICES[kind]
    section = device(input=shape, filters=filters, units=units)
    assert target.takes(section)
    artefact = exported(section, target)
    target.check(artefact, section)
    codes = pixels(*shape)
    expected = section.run({"device_0": codes.astype(np.float32)})
    found = target.runner(artefact)({"device_0": codes.astype(np.float32)})
    assert np.array_equal(found["features"], expected["features"])
    if target.fixed_point:
        assert np.allclose(found["class_vector"], expected["class_vector"], atol=1e-3)
    else:
        assert np.array_equal(found["class_vector"], expected["class_vector"])
    node = section.node
    assert artefact.details["message_bytes"] == {
        "features": node.output.size,
        "class_vector": node.class_vector.size,
    }
    assert artefact.details["coding"] is None


def test_the_target_takes_binary_devices_only() -> None:
    topology = Topology(
        devices=[
            Devices(name="a", input=(4,), units=(3,)),
            Devices(name="b", input=(4,), units=(3,), precision="float"),
        ],
        edges=[Edge(name="edge", senders=("a", "b"), units=(8,))],
        cloud=Cloud(),
    )
    sections = cut(build(topology), topology)
    assert [name for name in sections if C().takes(sections[name])] == ["a"]
    silent = device(has_exit=False)
    assert C().takes(silent)
    assert not C(fixed_point=True).takes(silent)
    artefact = exported(silent)
    codes = pixels(10, 9, 3)
    found = C().runner(artefact)({"device_0": codes})
    assert np.array_equal(found["features"], silent.run({"device_0": codes.astype(np.float32)})["features"])
    assert list(artefact.details["message_bytes"]) == ["features"]


def test_a_coding_goes_into_the_artefact_and_the_c() -> None:
    section = device(input=(9, 3), filters=(4,), coding=CODING)
    artefact = exported(section)
    assert artefact.details["coding"] == {"scale": [0.5, 0.125, 3.0], "offset": [-20.0, 0.1, 0.0]}
    description = json.loads(artefact.files["c/ddnn_device.json"])
    assert description["coding"] == artefact.details["coding"]
    library = C().library(artefact)
    readings = np.random.default_rng(0).normal(0, 60, (40, 9, 3))
    codes = library.encode(readings)
    assert np.array_equal(codes, CODING.encode(readings))
    expected = section.run({"device_0": codes.astype(np.float32)})
    assert np.array_equal(C().runner(artefact)({"device_0": codes})["class_vector"], expected["class_vector"])


def test_readings_are_encoded_before_a_prediction(tmp_path: Path) -> None:
    model = device(input=(9, 3), filters=(4,)).model
    export_c(model, name="net", coding=CODING).save(tmp_path)
    loaded = load(tmp_path)
    readings = np.random.default_rng(0).normal(0, 60, (40, 9, 3))
    codes = loaded.encode(readings)
    assert np.array_equal(codes, CODING.encode(readings))
    found = loaded.predict(codes)
    assert np.array_equal(
        found["class_vector"], model.predict(codes.astype(np.float32), verbose=0)["class_vector"]
    )
    with pytest.raises(ValueError, match="readings become codes by `encode`"):
        loaded.predict(readings)


def test_other_code_in_an_artefact_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    section = device(input=(9, 3), filters=(4,), coding=CODING)
    target = C()
    artefact = exported(section)
    target.check(artefact)
    target.check(artefact, section)
    other = device(seed=5, input=(9, 3), filters=(4,), coding=CODING)
    uncoded = device(input=(9, 3), filters=(4,))
    for changed in (other, uncoded):
        with pytest.raises(ValueError, match="holds other integers than the network in the bundle"):
            target.check(artefact, changed)

    def never(*_: object) -> None:
        raise AssertionError("foreign code was compiled")

    monkeypatch.setattr("ddnn_tf.export.c.host._compiled", never)
    files = dict(artefact.files)
    foreign = {
        "source": {"c/ddnn_device.c": files["c/ddnn_device.c"] + b"\n"},
        "header": {"c/ddnn_device.h": files["c/ddnn_device.h"] + b'\n#include "/etc/passwd"\n'},
        "description": {"c/ddnn_device.json": files["c/ddnn_device.json"].replace(b"0.125", b"0.25")},
        "another file": {"c/more.c": b"int main;"},
        "other integers": {"c/network.npz": dict(exported(other).files)["c/network.npz"]},
    }
    for case, change in foreign.items():
        for verb in (target.check, target.runner, target.library, target.clock):
            with pytest.raises(ValueError, match="'device_0' for 'c' is not the C that this version"):
                verb(replace(artefact, files={**files, **change}))
        assert case
    with pytest.raises(ValueError, match=r"The integer network is damaged"):
        target.check(replace(artefact, files={**files, "c/network.npz": b"nothing"}))
    del files["c/network.npz"]
    with pytest.raises(ValueError, match=r"lacks 'network\.npz'.* export the network anew"):
        target.runner(replace(artefact, files=files))


def test_a_device_process_runs_c_without_tensorflow(tmp_path: Path) -> None:
    section = device(input=(9, 3), filters=(4,), coding=CODING)
    artefact = exported(section)
    for name, content in artefact.files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    codes = pixels(9, 3, samples=20)
    np.save(tmp_path / "codes.npy", codes)
    code = f"""
import pathlib, sys, numpy
from ddnn_tf.bundle import Artefact
from ddnn_tf.export import TARGETS
place = pathlib.Path({str(tmp_path)!r})
target = TARGETS["c"]
files = {{name: (place / name).read_bytes() for name in {list(artefact.files)!r}}}
artefact = Artefact("device_0", "c", files)
target.check(artefact)
found = target.runner(artefact)({{"device_0": numpy.load(place / "codes.npy")}})
numpy.savez(place / "found.npz", **found)
heavy = {{"tensorflow", "tf_keras", "larq", "keras", "ai_edge_litert", "scipy"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    expected = section.run({"device_0": codes.astype(np.float32)})
    with np.load(tmp_path / "found.npz") as found:
        assert all(np.array_equal(found[name], values) for name, values in expected.items())


@pytest.mark.parametrize(
    "module", ["ddnn_tf.export.c", "ddnn_tf.export.c.target", "ddnn_tf.export.c.boards", "ddnn_tf.integers"]
)
def test_the_c_export_imports_no_tensorflow(module: str) -> None:
    code = f"import sys, {module}; assert not {{'tensorflow', 'larq'}} & set(sys.modules), 'heavy'"
    subprocess.run([sys.executable, "-c", code], check=True)
