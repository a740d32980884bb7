"""Schemes as facts: what stands in for absent senders says the same as the layers, given a mask."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from ddnn_tf.schemes import SCHEMES, Scheme, register_scheme, zero

NAMES = tuple(f"device_{number}" for number in range(6))


@given(
    st.sampled_from(["MP", "AP", "CC", "WCC"]),
    st.lists(st.booleans(), min_size=1, max_size=6),
    st.integers(0, 99),
)
def test_as_the_layer_with_a_mask(scheme: str, present: list[bool], seed: int) -> None:
    present[seed % len(present)] = True
    random = np.random.default_rng(seed)
    names = NAMES[: len(present)]
    inputs = {name: random.choice([-1.0, 1.0], (1, 2, 2, 3)).astype(np.float32) for name in names}
    layer = SCHEMES[scheme].make_layer()
    expected = layer(list(inputs.values()), present=tf.constant([present]))
    given_ = {name: inputs[name] for name, is_there in zip(names, present, strict=True) if is_there}
    found = layer(list(SCHEMES[scheme].complete(names, given_).values()))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    if scheme in ("MP", "WCC"):
        np.testing.assert_array_equal(found, expected)


def test_averaged_bits_stay_within_rounding_for_up_to_sixteen_devices() -> None:
    for devices in range(1, 17):
        for there in range(1, devices + 1):
            for ones in range(there + 1):
                bits = [np.float32(1 if at < ones else -1).reshape(1, 1) for at in range(there)]
                names = [str(at) for at in range(devices)]
                filled = SCHEMES["AP"].complete(names, dict(zip(names, bits, strict=False)))
                mean = np.float32(np.sum(list(filled.values()), dtype=np.float32)) / np.float32(devices)
                assert mean == pytest.approx(np.float32(2 * ones - there) / np.float32(there), abs=2e-7)


def test_nobody_there_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one of device_0"):
        SCHEMES["MP"].complete(NAMES, {})


def test_an_unknown_scheme_is_an_error_that_names_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"one of MP, AP, CC.*, but got 'XX'"):
        SCHEMES["XX"]


def test_two_schemes_of_one_name_are_refused() -> None:
    register_scheme(SCHEMES["CC"])
    with pytest.raises(
        ValueError, match=r"scheme of elsewhere, but 'CC' is registered by ddnn_tf\.aggregation"
    ):
        register_scheme(Scheme("CC", True, zero, "elsewhere:Layer"))


def test_a_layer_that_there_is_not_is_named() -> None:
    with pytest.raises(ValueError, match="'module:Class', but got 'SumAggregation'"):
        register_scheme(Scheme("SUM", False, zero, "SumAggregation"))
    with pytest.raises(ValueError, match=r"'ddnn_tf\.aggregation:Sum', but there is none"):
        Scheme("SUM", False, zero, "ddnn_tf.aggregation:Sum").make_layer()


def test_which_schemes_keep_bits() -> None:
    assert {name: SCHEMES[name].keeps_bits for name in ("MP", "AP", "CC")} == {
        "MP": True, "AP": False, "CC": False,
    }  # fmt: skip
