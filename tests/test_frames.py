from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ddnn_tf.frames import (
    CLASS_VECTOR,
    FEATURES,
    FIXED_POINT,
    OVERHEAD,
    Frame,
    pack_bits,
    read_frame,
    unpack_bits,
    write_frame,
)

FRAME = Frame(CLASS_VECTOR, 3, 70_000, np.float32([1.5, -2, 3]).tobytes())


@given(
    kind=st.sampled_from([CLASS_VECTOR, FEATURES, FIXED_POINT]),
    device=st.integers(0, 0xFFFF),
    sample=st.integers(0, 0xFFFFFFFF),
    payload=st.binary(max_size=200),
    fraction=st.integers(0, 31),
)
def test_what_is_written_is_read(kind: int, device: int, sample: int, payload: bytes, fraction: int) -> None:
    frame = Frame(kind, device, sample, payload, fraction)
    content = write_frame(frame)
    assert len(content) == len(payload) + OVERHEAD
    assert read_frame(content) == frame


@given(at=st.integers(0, len(write_frame(FRAME)) - 1), bit=st.integers(0, 7))
def test_a_flipped_bit_is_noticed(at: int, bit: int) -> None:
    content = bytearray(write_frame(FRAME))
    content[at] ^= 1 << bit
    with pytest.raises(ValueError, match="frame"):
        read_frame(bytes(content))


@given(content=st.binary(max_size=64))
def test_anything_else_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="Expected a frame"):
        read_frame(content)


def test_kinds_and_lengths_are_checked() -> None:
    content = write_frame(FRAME)
    with pytest.raises(ValueError, match="frame of 32 bytes, but got 31"):
        read_frame(content[:-1])
    with pytest.raises(ValueError, match="kind 1, 2 or 3, but got 9"):
        read_frame(write_frame(Frame(9, 0, 0, b"")))
    with pytest.raises(ValueError, match="do not fit"):
        write_frame(Frame(CLASS_VECTOR, 70_000, 0, b""))
    with pytest.raises(ValueError, match="feature map of 2 bytes"):
        read_frame(content).features((3, 3, 1))
    with pytest.raises(ValueError, match="class vector, but got 2 bytes of kind 2"):
        Frame(FEATURES, 0, 0, b"ab").class_vector()


def test_payloads_are_numbers_and_bits() -> None:
    assert read_frame(write_frame(FRAME)).class_vector().tolist() == [1.5, -2, 3]
    fixed = Frame(FIXED_POINT, 0, 0, np.int32([3, -8]).tobytes(), 2)
    assert fixed.class_vector().tolist() == [0.75, -2]
    features = np.ones((1, 3, 3, 1), np.float32)
    features[0, 0, 1] = -1
    packed = pack_bits(features)
    assert packed.tolist() == [[0b11111101, 1]]
    assert np.array_equal(Frame(FEATURES, 0, 0, packed.tobytes()).features((3, 3, 1)), features[0])


@given(bits=hnp.arrays(np.bool_, st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 7))))
def test_bits_survive_packing(bits: np.ndarray) -> None:
    values = np.where(bits, 1, -1).astype(np.float32)
    packed = pack_bits(values)
    assert packed.shape == (len(bits), -(-bits[0].size // 8))
    assert np.array_equal(unpack_bits(packed, bits.shape[1:]), values)
