"""Entropy-coded feature maps: the bits of a device in fewer bytes, exactly.

The bits of a feature map are alike in neighbouring positions and channels. A `BitCoder` holds how often a bit
was set in training, by its channel and by the bits around it that were sent before it; an arithmetic coder
then spends little on what is likely:

    >>> stripes = np.tile(np.array([[1.0], [-1.0]], np.float32), (8, 4, 8, 1))
    >>> coder = BitCoder.fit(stripes)
    >>> payload = coder.encode(stripes[0])
    >>> len(payload), coder.raw_size, bool((coder.decode(payload) == stripes[:1]).all())
    (1, 8, True)

A payload is shorter than the packed bits, or it is the packed bits: what codes badly costs no byte more, and
the length says which of both it is. Tables are small (at most 1,024 numbers of 12 bits a channel) and nothing
in them adapts, so that payloads may be lost, and every payload is decoded alone.

Source: Witten, Neal and Cleary 1987, Arithmetic coding for data compression; contexts as in ITU-T T.82.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ddnn_tf.specs import Shape, Spec

__all__ = ["BitCoder"]

# What a bit is predicted from, all sent before it: rows up, columns left and channels down from it.
_NEIGHBOURS = (
    (0, -1, 0), (-1, 0, 0), (-1, -1, 0), (-1, 1, 0), (0, -2, 0), (-2, 0, 0),
    (0, 0, -1), (0, 0, -2), (0, 0, -3), (0, 0, -4),
)  # fmt: skip
_CONTEXTS = 2 ** len(_NEIGHBOURS)
_BEFORE = tuple(-min(offset[axis] for offset in _NEIGHBOURS) for axis in range(3))
_AFTER = tuple(max(offset[axis] for offset in _NEIGHBOURS) for axis in range(3))
# A count that stands for what was never seen in training; small, because most contexts are all but certain.
_PRIOR = 0.4
_ONE = 1 << 12  # the probability 1
_TOP = 1 << 32
_HALF, _QUARTER = _TOP // 2, _TOP // 4
_END_BITS = 2  # what ends a payload


@dataclass(frozen=True)
class BitCoder:
    """Codes the bits of one device's feature map.

    Attributes:
        shape: Shape of the map: `(height, width, channels)`, `(steps, channels)` or `(features,)`.
        table: `(channels, contexts)` uint16, the probability that a bit is set, in 1/4096.
    """

    shape: Shape
    table: NDArray[np.uint16]

    @classmethod
    def fit(cls, maps: ArrayLike) -> BitCoder:
        """The coder that suits some feature maps best.

        Args:
            maps: `(samples, *shape)` numbers of training samples; above 0 is a set bit.

        Raises:
            ValueError: No sample, or no axes of a feature map.
        """
        values = np.asarray(maps)
        if not 2 <= values.ndim <= 4 or not values.size:
            raise ValueError(
                "Expected `maps` to be feature maps (samples, height, width, channels), (samples, steps, "
                f"channels) or (samples, features), at least one, but got shape {values.shape}."
            )
        bits = _as_planes(values)
        channels = bits.shape[-1]
        places = _contexts(bits) + _CONTEXTS * np.arange(channels)
        seen = np.bincount(places.ravel(), minlength=channels * _CONTEXTS)
        set_bits = np.bincount(places[bits], minlength=channels * _CONTEXTS)
        likely = (set_bits + _PRIOR) / (seen + 2 * _PRIOR)
        table = np.clip(np.rint(likely * _ONE), 1, _ONE - 1).astype(np.uint16)
        return cls(values.shape[1:], table.reshape(channels, _CONTEXTS))

    @property
    def raw_size(self) -> int:
        """Bytes of the packed bits, which no payload exceeds."""
        return self._spec.size

    def encode(self, array: ArrayLike) -> bytes:
        """The payload of one map `shape`; numbers above 0 are set bits."""
        values = np.asarray(array).reshape(self.shape)
        bits = _as_planes(values[None])
        probabilities = self._probabilities(bits)
        coded = _encoded(bits.ravel().tolist(), probabilities.ravel().tolist())
        return coded if len(coded) < self.raw_size else self._spec.encode(values)

    def decode(self, payload: bytes) -> NDArray[np.float32]:
        """The map `(1, *shape)` float32 of a payload, -1 and +1.

        Raises:
            ValueError: The payload is empty, or longer than the packed bits.
        """
        if not 1 <= len(payload) <= self.raw_size:
            raise ValueError(
                f"Expected 1 to {self.raw_size} bytes of coded bits for {self.shape}, but got {len(payload)}."
            )
        if len(payload) == self.raw_size:
            return self._spec.decode(payload)
        height, width, channels = _planes(self.shape)
        padded = np.zeros(
            [sum(sizes) for sizes in zip(_BEFORE, (height, width, channels), _AFTER, strict=True)], int
        )
        decoder = _Decoder(payload)
        above, left, below = _BEFORE
        for row in range(height):
            for column in range(width):
                for channel in range(channels):
                    place = (row + above, column + left, channel + below)
                    context = 0
                    for number, (down, right, up) in enumerate(_NEIGHBOURS):
                        context |= int(padded[place[0] + down, place[1] + right, place[2] + up]) << number
                    padded[place] = decoder.bit(int(self.table[channel, context]))
        bits = padded[above : above + height, left : left + width, below : below + channels]
        return (2 * bits - 1).astype(np.float32).reshape(1, *self.shape)

    def sizes(self, maps: ArrayLike) -> NDArray[np.int64]:
        """Bytes of many payloads, quickly: their code lengths, which `encode` meets within a byte.

        Args:
            maps: `(samples, *shape)` numbers; above 0 is a set bit.

        Returns:
            `(samples,)` int64.
        """
        bits = _as_planes(np.asarray(maps))
        likely = self._probabilities(bits) / _ONE
        lengths = -np.log2(np.where(bits, likely, 1 - likely)).sum(axis=(1, 2, 3))
        return np.minimum(np.ceil((lengths + _END_BITS) / 8).astype(np.int64), self.raw_size)

    @property
    def _spec(self) -> Spec:
        return Spec(self.shape, "bits")

    def _probabilities(self, bits: NDArray[np.bool_]) -> NDArray[np.uint16]:
        return self.table[np.arange(bits.shape[-1]), _contexts(bits)]


def _planes(shape: Shape) -> Shape:
    """A shape as `(height, width, channels)`: a series has width 1, a vector is one position."""
    return {1: (1, 1, *shape), 2: (*shape[:1], 1, *shape[1:]), 3: shape}[len(shape)]


def _as_planes(maps: NDArray[Any]) -> NDArray[np.bool_]:
    """`(samples, height, width, channels)` bool."""
    is_set: NDArray[np.bool_] = np.asarray(maps > 0)
    return is_set.reshape(len(maps), *_planes(maps.shape[1:]))


def _contexts(bits: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The bits around each bit as one number, `(samples, height, width, channels)` int64."""
    margins = [(0, 0), *zip(_BEFORE, _AFTER, strict=True)]
    padded = np.pad(bits, margins).astype(np.int64)
    contexts = np.zeros(bits.shape, np.int64)
    for number, offset in enumerate(_NEIGHBOURS):
        starts = [before + step for before, step in zip(_BEFORE, offset, strict=True)]
        window = tuple(slice(start, start + size) for start, size in zip(starts, bits.shape[1:], strict=True))
        contexts |= padded[(slice(None), *window)] << number
    return contexts


def _encoded(bits: list[bool], probabilities: list[int]) -> bytes:
    """Arithmetic code of bits, each with its probability of being set."""
    low, high, waiting = 0, _TOP - 1, 0
    written: list[int] = []

    def write(bit: int) -> None:
        nonlocal waiting
        written.extend([bit, *[1 - bit] * waiting])
        waiting = 0

    for bit, probability in zip(bits, probabilities, strict=True):
        middle = low + (high - low + 1) * probability // _ONE - 1
        low, high = (low, middle) if bit else (middle + 1, high)
        while True:
            if high < _HALF:
                write(0)
            elif low >= _HALF:
                write(1)
                low, high = low - _HALF, high - _HALF
            elif low >= _QUARTER and high < _HALF + _QUARTER:
                waiting += 1
                low, high = low - _QUARTER, high - _QUARTER
            else:
                break
            low, high = 2 * low, 2 * high + 1
    waiting += 1
    write(int(low >= _QUARTER))
    return np.packbits(written).tobytes()


class _Decoder:
    """Reads an arithmetic code bit by bit; behind its end it holds zeros."""

    def __init__(self, payload: bytes) -> None:
        self._bits: Iterator[int] = iter(np.unpackbits(np.frombuffer(payload, np.uint8)).tolist())
        self._low, self._high, self._code = 0, _TOP - 1, 0
        for _ in range(_TOP.bit_length() - 1):
            self._code = 2 * self._code + next(self._bits, 0)

    def bit(self, probability: int) -> int:
        """The next bit, by its probability of being set."""
        middle = self._low + (self._high - self._low + 1) * probability // _ONE - 1
        bit = int(self._code <= middle)
        if bit:
            self._high = middle
        else:
            self._low = middle + 1
        while True:
            if self._high < _HALF:
                base = 0
            elif self._low >= _HALF:
                base = _HALF
            elif self._low >= _QUARTER and self._high < _HALF + _QUARTER:
                base = _QUARTER
            else:
                return bit
            self._low, self._high = 2 * (self._low - base), 2 * (self._high - base) + 1
            self._code = 2 * (self._code - base) + next(self._bits, 0)
