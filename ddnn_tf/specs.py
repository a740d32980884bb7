"""What an array is on its way between two nodes: shape, kind, bytes on the wire, encoding.

    >>> spec = Spec((16, 16, 4), "bits")
    >>> spec.size
    128
    >>> spec.decode(spec.encode(np.ones((16, 16, 4)))).shape
    (1, 16, 16, 4)

A sensor's readings travel and are computed on as 8-bit codes; `Coding` says by which scale and offset a
physical value becomes one:

    >>> coding = Coding(scale=(0.5,), offset=(-10.0,))
    >>> coding.encode([[-10.0], [0.0], [200.0]]).tolist()
    [[0], [20], [255]]

Source: Teerapittayanon et al. 2017, Section III-E, for the payloads of Eq. (1).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import model_validator

from ddnn_tf.documents import Strict
from ddnn_tf.frames import pack_bits, unpack_bits

__all__ = ["HIGHEST_CODE", "Coding", "Kind", "Shape", "Spec"]

Kind = Literal["bits", "bytes", "floats"]
Shape = tuple[int, ...]

HIGHEST_CODE = 255
"""The highest 8-bit code; the lowest is 0."""

_FLOAT = np.dtype("<f4")
# Far above any real class vector, and far below where sums and softmax overflow.
_LARGEST = 1e6
_SMALLEST, _GREATEST = (float(limit) for limit in (np.finfo(np.float32).tiny, np.finfo(np.float32).max))


@dataclass(frozen=True)
class Spec:
    """How an array travels.

    Attributes:
        shape: Shape of the array, without the batch: `(height, width, channels)`, `(steps, channels)` or
            `(features,)`.
        kind: `bits` (-1 and +1, one bit each), `bytes` (whole numbers 0..255) or `floats` (float32,
            little-endian).
    """

    shape: Shape
    kind: Kind

    @functools.cached_property
    def elements(self) -> int:
        """Numbers in the array."""
        return math.prod(self.shape)

    @functools.cached_property
    def size(self) -> int:
        """Bytes on the wire."""
        bits = {"bits": 1, "bytes": 8, "floats": 32}[self.kind]
        return -(-self.elements * bits // 8)

    def encode(self, array: NDArray[Any]) -> bytes:
        """The payload of one array `shape`; for `bits`, numbers above 0 are set bits."""
        if self.kind == "bits":
            return pack_bits(array[None]).tobytes()
        return np.ascontiguousarray(array, np.uint8 if self.kind == "bytes" else _FLOAT).tobytes()

    def decode(self, payload: bytes) -> NDArray[np.float32]:
        """The array `(1, *shape)` float32 of a payload.

        Raises:
            ValueError: The payload has another size, or holds numbers that no network gives.
        """
        if len(payload) != self.size:
            raise ValueError(f"Expected {self.size} bytes for {self.shape}, but got {len(payload)}.")
        if self.kind == "bits":
            return unpack_bits(np.frombuffer(payload, np.uint8), self.shape)[None]
        dtype = np.dtype(np.uint8) if self.kind == "bytes" else _FLOAT
        array = np.frombuffer(payload, dtype).astype(np.float32).reshape(1, *self.shape)
        if self.kind == "floats" and not (np.abs(array) <= _LARGEST).all():
            raise ValueError(f"Expected finite numbers of at most {_LARGEST:g}, but got others.")
        return array


class Coding(Strict):
    """How physical values become 8-bit codes: code = round((value - offset) / scale), within 0..255.

    Attributes:
        scale: Physical value of one code step, by channel (the last axis); positive.
        offset: Physical value of code 0, by channel.

    Raises:
        ValueError: A scale that is not a positive float32, an offset that is not finite, or not one offset
            for each scale.
    """

    scale: tuple[float, ...]
    offset: tuple[float, ...]

    @model_validator(mode="after")
    def _check(self) -> Coding:
        if len(self.scale) != len(self.offset) or not self.scale:
            raise ValueError(
                f"'offset' has {len(self.offset)} numbers and 'scale' {len(self.scale)}: give one of each "
                "for every channel"
            )
        # Codes are computed in float32, in C too, where a step below its normal numbers may be taken for 0.
        for value in self.scale:
            if not _SMALLEST <= value <= _GREATEST:
                raise ValueError(f"'scale' holds {value}: a code step must be a positive, finite float32")
        for value in self.offset:
            if not abs(value) <= _GREATEST:
                raise ValueError(f"'offset' holds {value}: it must be a finite float32")
        return self

    @classmethod
    def fit(cls, values: ArrayLike) -> Coding:
        """The coding that spans the values of each channel, lowest to highest, by 0..255.

        Args:
            values: `(..., channels)` finite numbers, of training samples only.

        Raises:
            ValueError: No values, or NaN or infinity among them.
        """
        array = np.asarray(values, np.float64)
        flat = array.reshape(-1, array.shape[-1]) if array.ndim else array.reshape(0, 1)
        if not flat.size or not np.isfinite(flat).all():
            raise ValueError("Expected `values` to be finite numbers, at least one, but got others.")
        lowest, highest = flat.min(axis=0), flat.max(axis=0)
        step = (highest - lowest) / HIGHEST_CODE
        # A channel that is constant, as far as float32 can tell, is code 0 whatever the step.
        step = np.where(step >= np.finfo(np.float32).tiny, step, 1.0)
        return cls(scale=tuple(step.tolist()), offset=tuple(lowest.tolist()))

    def encode(self, values: ArrayLike) -> NDArray[np.uint8]:
        """Codes `(..., channels)` uint8 of physical values; beyond the range, 0 or 255.

        Args:
            values: `(..., channels)` numbers.

        Raises:
            ValueError: Another number of channels, or NaN among the values.
        """
        # In float32, as the exported C computes it.
        array = np.asarray(values, np.float32)
        if array.ndim == 0 or array.shape[-1] != len(self.scale):
            raise ValueError(
                f"Expected readings of {len(self.scale)} channels, but got an array of shape {array.shape}."
            )
        if np.isnan(array).any():
            raise ValueError("Expected readings to be numbers, but got NaN: mark the view absent instead.")
        steps = (array - np.asarray(self.offset, np.float32)) / np.asarray(self.scale, np.float32)
        return np.clip(np.rint(steps), 0, HIGHEST_CODE).astype(np.uint8)

    def decode(self, codes: ArrayLike) -> NDArray[np.float64]:
        """Physical values `(..., channels)` float64 of codes."""
        return np.asarray(codes, np.float64) * np.asarray(self.scale) + np.asarray(self.offset)
