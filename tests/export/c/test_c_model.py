"""`convert`, `predict`, `save` and `load`, as a user of Keras or Larq meets them."""

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
from binary_models import BINARY, HIDDEN, binary_net, device, layers, pixels, shuffle_norms

from ddnn_tf.export.c import convert, load, load_model
from ddnn_tf.export.c.host import Library
from ddnn_tf.export.c.source import Member, write
from ddnn_tf.export.c.target import C
from ddnn_tf.folding import fold


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
        exported = convert(model)
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


def test_named_outputs_come_as_a_dictionary() -> None:
    section = device()
    images = pixels(10, 9, 3)
    expected = section.run({"device_0": images.astype(np.float32)})
    found = convert(section.model).predict(images)
    assert isinstance(found, dict)
    assert {name: values.dtype for name, values in found.items()} == dict.fromkeys(expected, np.float32)
    assert all(np.array_equal(found[name], values) for name, values in expected.items())


def test_any_number_stands_for_a_bit_where_the_model_binarizes_its_input() -> None:
    model = tf.keras.Sequential([layers.Input((40,)), lq.layers.QuantDense(5, **HIDDEN)])
    values = np.random.default_rng(0).normal(size=(60, 40)).astype(np.float32)
    values[0] = 0
    found = convert(model, name="net").predict(values)
    assert np.array_equal(found, model.predict(values, verbose=0))


@pytest.mark.parametrize("value", [0.5, -1, 256])
def test_numbers_that_are_no_pixels_are_refused(value: float) -> None:
    exported = convert(binary_net(), name="net")
    with pytest.raises(ValueError, match=r"whole numbers 0\.\.255"):
        exported.predict(np.full((1, 12, 11, 1), value))
    with pytest.raises(ValueError, match="12, 11, 1"):
        exported.predict(np.zeros((1, 11, 12, 1), np.uint8))


def test_what_is_saved_runs_without_tensorflow(tmp_path: Path) -> None:
    model = binary_net()
    convert(model, name="net").save(tmp_path / "net")
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
    exported = convert(binary_net(), name="net")
    exported.save(tmp_path)
    (tmp_path / "net.json").write_text('{"name": "net"}')
    with pytest.raises(ValueError, match="damaged: its input_shape: Field required"):
        load(tmp_path)
    exported.save(tmp_path)
    (tmp_path / "net.c").write_text("no C")
    with pytest.raises(OSError, match=r"refuses net\.c: "):
        load(tmp_path).predict(np.zeros((1, 12, 11, 1)))
    convert(binary_net(), name="other").save(tmp_path)
    with pytest.raises(ValueError, match="holds net, other"):
        load(tmp_path)
    with pytest.raises(FileNotFoundError, match="no model"):
        load_model(tmp_path / "none.keras")
    (tmp_path / "bad.keras").write_bytes(b"no model")
    with pytest.raises(ValueError, match="is not a Keras model"):
        load_model(tmp_path / "bad.keras")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("input_shape", [-1, 11, 1]),
        ("input_shape", [12, 11]),
        ("is_binary", "false"),
        ("name", "../net"),
        ("outputs", [{"name": "output", "kind": "bogus", "shape": [10]}]),
        ("outputs", [{"name": "output", "kind": "bits", "shape": ["a"]}]),
        ("fraction_bits", 40),
    ],
)
def test_a_description_is_checked_field_by_field(field: str, value: object, tmp_path: Path) -> None:
    exported = convert(binary_net(), name="net")
    exported.save(tmp_path)
    fields = json.loads((tmp_path / "net.json").read_text())
    (tmp_path / "net.json").write_text(json.dumps({**fields, field: value}))
    with pytest.raises(ValueError, match=rf"damaged: its {field}"):
        load(tmp_path)


def test_an_output_is_as_large_as_described(tmp_path: Path) -> None:
    """Else the C would write behind the array that Python made for it."""
    source = convert(binary_net(), name="net").source
    with pytest.raises(ValueError, match="gives 40 bytes, but is described as giving 4"):
        Library(replace(source, outputs=(Member("output", "float32", (1,)),)))


def test_a_name_writes_no_c(tmp_path: Path) -> None:
    inner = binary_net()
    model = tf.keras.Sequential([layers.Input((12, 11, 1)), *inner.layers], name="net */ #error injected /*")
    exported = convert(model, name="net")
    assert "*/ #error" not in exported.source.header
    assert convert(model).source.name == "net_____error_injected___"
    exported.predict(pixels(12, 11, 1))
    with pytest.raises(ValueError, match="C identifier in lower case, but got 'class'"):
        convert(model, name="class")


def test_no_samples_give_no_answers() -> None:
    found = convert(binary_net(), name="net").predict(np.zeros((0, 12, 11, 1), np.uint8))
    assert isinstance(found, np.ndarray)
    assert found.shape == (0, 10)


def test_no_compiler_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FileNotFoundError, match="install gcc or clang, or set CC"):
        Library(write(fold(device().model), "net"))


def test_other_code_in_an_artefact_is_not_run() -> None:
    section = device()
    target = C()
    inputs = {"device_0": pixels(10, 9, 3, samples=3).astype(np.float32)}
    artefact = target.convert(section, inputs)
    target.check(artefact, section)
    with pytest.raises(ValueError, match="other code is not run"):
        target.check(artefact, device(seed=5))
    artefact.files["c/ddnn_device.c"] += b"\n"  # type: ignore[index]
    with pytest.raises(ValueError, match="'device_0' for 'c' is not the C"):
        target.check(artefact, section)
