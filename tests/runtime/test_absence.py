"""What absent senders are replaced by: the aggregation layers, given a mask, say the same."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from ddnn_tf.aggregation import aggregation
from ddnn_tf.runtime.absence import complete

NAMES = tuple(f"device_{number}" for number in range(6))


@given(
    st.sampled_from(["MP", "AP", "CC"]), st.lists(st.booleans(), min_size=1, max_size=6), st.integers(0, 99)
)
def test_as_the_layer_with_a_mask(scheme: str, present: list[bool], seed: int) -> None:
    present[seed % len(present)] = True
    random = np.random.default_rng(seed)
    names = NAMES[: len(present)]
    inputs = {name: random.choice([-1.0, 1.0], (1, 2, 2, 3)).astype(np.float32) for name in names}
    layer = aggregation(scheme)
    expected = layer(list(inputs.values()), present=tf.constant([present]))
    given_ = {name: inputs[name] for name, is_there in zip(names, present, strict=True) if is_there}
    found = layer(list(complete(scheme, names, given_).values()))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    if scheme == "MP":
        np.testing.assert_array_equal(found, expected)


def test_averaged_bits_stay_within_rounding_for_up_to_sixteen_devices() -> None:
    for devices in range(1, 17):
        for there in range(1, devices + 1):
            for ones in range(there + 1):
                bits = [np.float32(1 if at < ones else -1).reshape(1, 1) for at in range(there)]
                names = [str(at) for at in range(devices)]
                filled = complete("AP", names, dict(zip(names, bits, strict=False)))
                mean = np.float32(np.sum(list(filled.values()), dtype=np.float32)) / np.float32(devices)
                assert mean == pytest.approx(np.float32(2 * ones - there) / np.float32(there), abs=2e-7)


def test_nobody_there_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one of device_0"):
        complete("MP", NAMES, {})
