"""Coded feature maps: exact both ways, and never longer than the packed bits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddnn_tf.coding import BitCoder
from ddnn_tf.specs import Spec

SHAPES = st.one_of(
    st.tuples(st.integers(1, 40)),
    st.tuples(st.integers(1, 9), st.integers(1, 6)),
    st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6)),
)


def maps(seed: int, samples: int, shape: tuple[int, ...], share: float) -> np.ndarray:
    """Random bits, -1 and +1, of which a share is set."""
    return np.where(np.random.default_rng(seed).random((samples, *shape)) < share, 1, -1).astype(np.float32)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**6), SHAPES, st.floats(0, 1), st.floats(0, 1))
def test_every_map_is_decoded_exactly_however_unlike_the_training(
    seed: int, shape: tuple[int, ...], trained: float, share: float
) -> None:
    coder = BitCoder.fit(maps(seed, 5, shape, trained))
    (array,) = maps(seed + 1, 1, shape, share)
    payload = coder.encode(array)
    assert 1 <= len(payload) <= coder.raw_size
    assert np.array_equal(coder.decode(payload)[0], array)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), SHAPES, st.floats(0, 1))
def test_sizes_are_those_of_the_payloads_within_a_byte(
    seed: int, shape: tuple[int, ...], share: float
) -> None:
    coder = BitCoder.fit(maps(seed, 5, shape, share))
    arrays = maps(seed + 1, 4, shape, share)
    sizes = [len(coder.encode(array)) for array in arrays]
    assert np.abs(coder.sizes(arrays) - sizes).max() <= 1


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.binary(min_size=1, max_size=8))
def test_any_bytes_decode_to_some_map(seed: int, payload: bytes) -> None:
    decoded = BitCoder.fit(maps(seed, 5, (4, 4, 4), 0.3)).decode(payload)
    assert decoded.shape == (1, 4, 4, 4)
    assert set(np.unique(decoded)) <= {-1, 1}


def test_what_codes_badly_is_sent_raw() -> None:
    coder = BitCoder.fit(maps(0, 20, (8, 8, 4), 0.01))
    (array,) = maps(1, 1, (8, 8, 4), 0.5)
    assert coder.encode(array) == Spec((8, 8, 4), "bits").encode(array)


def test_smooth_maps_take_a_fraction_of_the_bytes() -> None:
    random = np.random.default_rng(0)
    corners = random.integers(0, 16, (60, 2))
    rows, columns = np.arange(16)[:, None, None], np.arange(16)[:, None]
    smooth = np.stack([(rows > row) & (columns > column) for row, column in corners]).repeat(4, axis=3) - 0.5
    coder = BitCoder.fit(smooth[:40])
    assert max(len(coder.encode(array)) for array in smooth[40:]) < coder.raw_size / 8


def test_a_payload_of_another_length_is_refused() -> None:
    coder = BitCoder.fit(maps(0, 5, (8, 8, 1), 0.5))
    for payload in (b"", bytes(9)):
        with pytest.raises(ValueError, match=rf"1 to 8 bytes of coded bits .* but got {len(payload)}"):
            coder.decode(payload)


@pytest.mark.parametrize("shape", [(0, 4, 4, 1), (3,), (1, 1, 1, 1, 1)])
def test_what_is_no_feature_map_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="Expected `maps` to be feature maps"):
        BitCoder.fit(np.ones(shape))
