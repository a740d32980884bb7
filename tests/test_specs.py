from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ddnn_tf.specs import Coding, Spec

SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple)
NUMBERS = st.floats(-1e5, 1e5, width=32)


@given(shape=SHAPES, seed=st.integers(0, 99))
def test_every_kind_travels_unchanged(shape: tuple[int, ...], seed: int) -> None:
    random = np.random.default_rng(seed)
    arrays_by_kind = {
        "bits": random.choice([-1.0, 1.0], shape),
        "bytes": random.integers(0, 256, shape),
        "floats": random.normal(size=shape).astype(np.float32),
    }
    for kind, array in arrays_by_kind.items():
        spec = Spec(shape, kind)
        payload = spec.encode(array)
        assert len(payload) == spec.size
        assert np.array_equal(spec.decode(payload), array[None].astype(np.float32)), kind


def test_sizes_are_those_of_equation_1() -> None:
    assert Spec((3,), "floats").size == 12
    assert Spec((16, 16, 4), "bits").size == 128
    assert Spec((3, 3, 1), "bits").size == 2
    assert Spec((32, 32, 3), "bytes").size == 3072


@given(payload=st.binary(max_size=40))
def test_no_payload_decodes_to_numbers_that_overflow(payload: bytes) -> None:
    for kind in ("bits", "bytes", "floats"):
        spec = Spec((2, 3), kind)
        if len(payload) != spec.size:
            with pytest.raises(ValueError, match=f"Expected {spec.size} bytes"):
                spec.decode(payload)
            continue
        try:
            array = spec.decode(payload)
        except ValueError:
            assert kind == "floats"
        else:
            assert array.shape == (1, 2, 3)
            assert np.abs(array).max() <= 1e6


@given(values=arrays.arrays(np.float32, (6, 4, 2), elements=NUMBERS))
def test_a_fitted_coding_errs_by_half_a_step_at_most(values: np.ndarray) -> None:
    coding = Coding.fit(values)
    codes = coding.encode(values)
    assert codes.dtype == np.uint8
    assert np.array_equal(codes.reshape(-1, 2).min(axis=0), [0, 0])
    error = np.abs(coding.decode(codes) - values)
    magnitude = np.abs(values).max()
    assert (error <= 0.5 * np.array(coding.scale) * (1 + 1e-4) + 1e-6 * magnitude).all()


def test_readings_beyond_the_range_are_the_lowest_and_highest_code() -> None:
    coding = Coding(scale=(0.5, 2.0), offset=(-10.0, 100.0))
    assert coding.encode([[-1e9, 1e9], [0.0, 101.0], [0.25, 103.0]]).tolist() == [[0, 255], [20, 0], [20, 2]]


def test_a_constant_channel_is_code_0() -> None:
    coding = Coding.fit(np.full((5, 1), 7.0))
    assert coding.encode([[7.0]]).tolist() == [[0]]
    assert coding.decode([[0]]).tolist() == [[7.0]]


@pytest.mark.parametrize(
    ("scale", "offset", "message"),
    [
        ((0.0,), (0.0,), "'scale' holds 0"),
        ((-1.0,), (0.0,), "'scale' holds -1"),
        ((float("inf"),), (0.0,), "'scale' holds inf"),
        ((1.0,), (float("nan"),), "'offset' holds nan"),
        ((1.0, 2.0), (0.0,), "'offset' has 1 numbers and 'scale' 2"),
        ((), (), "'offset' has 0 numbers"),
    ],
)
def test_bad_codings_name_the_field(
    scale: tuple[float, ...], offset: tuple[float, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Coding(scale=scale, offset=offset)


def test_bad_readings_are_refused() -> None:
    coding = Coding(scale=(1.0, 1.0), offset=(0.0, 0.0))
    with pytest.raises(ValueError, match=r"2 channels, but got an array of shape \(3,\)"):
        coding.encode([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="but got NaN"):
        coding.encode([1.0, float("nan")])
    with pytest.raises(ValueError, match="finite numbers"):
        Coding.fit([[1.0], [float("nan")]])
    with pytest.raises(ValueError, match="finite numbers"):
        Coding.fit(np.zeros((0, 3)))
