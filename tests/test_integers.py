"""Integer networks as files: what is written is read back, and nothing damaged is."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_integers import random_device, random_network

from ddnn_tf.integers import IntegerLayer, IntegerNetwork, Output, Pool, Sign, SlidingWindow

DEVICE = random_device((6, 5, 2), 3, 2)
CONTENT = DEVICE.to_bytes()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_network_is_read_back_as_it_was(seed: int) -> None:
    network, inputs = random_network(seed)
    content = network.to_bytes()
    again = IntegerNetwork.from_bytes(content)
    assert again.to_bytes() == content
    for name, values in network.run(inputs).items():
        found = again.run(inputs)[name]
        assert found.dtype == values.dtype
        assert np.array_equal(found, values)


def test_other_weights_are_other_bytes() -> None:
    first = DEVICE.layers[0]
    weights = first.weights.copy()
    weights[0, 0, 0, 0] *= -1
    other = replace(DEVICE, layers=(replace(first, weights=weights), *DEVICE.layers[1:]))
    assert other.to_bytes() != CONTENT


def changed(change: Callable[[dict[str, Any], dict[str, np.ndarray]], None]) -> bytes:
    """The file of the device after a change of its description or arrays."""
    with np.load(io.BytesIO(CONTENT)) as archive:
        arrays = {name: archive[name] for name in archive.files}
    description = json.loads(arrays.pop("description").tobytes())
    change(description, arrays)
    text = np.frombuffer(json.dumps(description).encode(), np.uint8)
    content = io.BytesIO()
    np.savez(content, description=text, **arrays)
    return content.getvalue()


DAMAGE: dict[str, tuple[Callable[[dict[str, Any], dict[str, np.ndarray]], Any], str]] = {
    "format": (lambda text, _: text.update(format=2), "'format'"),
    "missing field": (lambda text, _: text.pop("is_binary"), "lacks the field 'is_binary'"),
    "extra field": (lambda text, _: text.update(code="import os"), "'code'"),
    "shape": (lambda text, _: text.update(input_shape=[6, 5, -2]), "'input_shape"),
    "another input": (lambda text, _: text.update(input_shape=[6, 5, 3]), "Layer 0 reads"),
    "window": (lambda text, _: text["layers"][0]["window"].update(size=[3, 9]), "packed weights"),
    "margins": (lambda text, _: text["layers"][0]["window"].update(margins=[[3, 1], [1, 1]]), "margins smal"),
    "stride": (lambda text, _: text["layers"][0]["window"].update(stride=[0, 1]), "strides of at least 1"),
    "padding": (lambda text, _: text["layers"][1].update(padding=7), "pads bits with 7"),
    "huge padding": (lambda text, _: text["layers"][0].update(padding=1 << 24), "2\\^24"),
    "output": (lambda text, _: text["outputs"]["features"].update(layer=9), "'features' is of layer 9"),
    "twice": (lambda text, _: text["outputs"]["features"].update(layer=2), "give each layer's once"),
    "output shape": (lambda text, _: text["outputs"]["features"].update(shape=[7]), "not what its layer"),
    "no layers": (lambda text, arrays: (text.update(layers=[]), arrays.clear()), "at least one layer"),
    "no sign": (lambda text, _: text["layers"][0].update(has_sign=False), "sign before each pool"),
    "missing array": (lambda _, arrays: arrays.pop("0.thresholds"), "lacks the array '0.thresholds'"),
    "extra array": (lambda _, arrays: arrays.update(more=np.zeros(3)), "unknown array 'more'"),
    "type": (lambda _, arrays: arrays.update({"0.thresholds": np.zeros(3)}), "thresholds int32"),
    "size": (lambda _, arrays: arrays.update({"0.rising": np.ones(4, bool)}), "directions bool"),
    "weights": (lambda _, arrays: arrays.update({"0.weights": np.zeros(9, np.uint8)}), "packed weights"),
    "range": (lambda _, arrays: arrays["0.thresholds"].fill(-(2**31)), "thresholds within"),
    "nan": (lambda _, arrays: arrays["2.scale_0"].fill(np.nan), "scales that are finite"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_network_is_one_error(case: str) -> None:
    change, message = DAMAGE[case]
    content = changed(change)
    with pytest.raises(ValueError, match=message) as caught:
        IntegerNetwork.from_bytes(content)
    assert str(caught.value).startswith("The integer network is damaged: ")


def test_what_is_no_archive_of_plain_arrays_is_refused() -> None:
    for content in (b"", b"no archive", CONTENT[: len(CONTENT) // 2]):
        with pytest.raises(ValueError, match=r"it is no \.npz file"):
            IntegerNetwork.from_bytes(content)
    pickled = io.BytesIO()
    np.savez(pickled, description=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="damaged"):
        IntegerNetwork.from_bytes(pickled.getvalue())
    packed = io.BytesIO()
    np.savez_compressed(packed, description=np.zeros(100_000, np.uint8))
    with pytest.raises(ValueError, match="it is compressed"):
        IntegerNetwork.from_bytes(packed.getvalue())


@settings(max_examples=60, deadline=None)
@given(at=st.integers(0, len(CONTENT) - 1), bit=st.integers(0, 7))
def test_a_flipped_bit_is_an_error_or_another_network(at: int, bit: int) -> None:
    content = bytearray(CONTENT)
    content[at] ^= 1 << bit
    with contextlib.suppress(ValueError):
        network = IntegerNetwork.from_bytes(bytes(content))
        network.run(np.zeros((1, *network.input_shape), bool if network.is_binary else np.uint8))


def test_layers_that_cannot_be_are_refused() -> None:
    weights = np.ones((3, 3, 2, 4), np.int8)
    sign = Sign(np.zeros(4, np.int32), np.ones(4, bool))
    for options, message in (
        ({"window": SlidingWindow((3, 3)), "input_shape": (2, 9, 2)}, "windows that fit"),
        ({"window": SlidingWindow((3, 3)), "input_shape": (9, 9, 3)}, r"int8 \(3, 3, 3, filters\)"),
        ({"window": SlidingWindow(), "input_shape": (9, 9, 2)}, r"int8 \(1, 1, 2, filters\)"),
    ):
        with pytest.raises(ValueError, match=message):
            IntegerLayer(weights, sign=sign, **options)  # type: ignore[arg-type]
    layer = IntegerLayer(weights, (9, 9, 2), SlidingWindow((3, 3)))
    with pytest.raises(ValueError, match="gives numbers to another layer"):
        IntegerNetwork((9, 9, 2), False, (layer, replace(layer)), {"output": Output(1, (7, 7, 4))})
    with pytest.raises(ValueError, match="pools numbers"):
        replace(layer, pools=(Pool(SlidingWindow(), np.ones(4, bool)),))
    with pytest.raises(ValueError, match="a sign or steps"):
        replace(layer, sign=sign, steps=((None, np.zeros(4, np.float32)),))
    with pytest.raises(ValueError, match="-1 and \\+1"):
        replace(layer, weights=np.zeros_like(weights))
