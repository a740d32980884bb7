"""The messages of a device, as the exported C frames them: its class vector, and its feature map.

    offset  bytes
    0       2      "DN"
    2       1      version, 1
    3       1      kind: 1 class vector float32, 2 feature map, 3 class vector in fixed point
    4       2      number of the device
    6       1      fraction bits of a fixed-point class vector: its numbers are value / 2^bits; else 0
    7       1      0
    8       4      number of the sample
    12      4      bytes of the payload
    16      n      payload: 4 bytes for each class, or one bit for each feature
    16 + n  4      CRC-32 (that of zlib) of all before

All numbers are little-endian. Bit `i` of a feature map, counted in the order height, width, filter, is
bit `i % 8` of byte `i // 8`, set for +1; unused bits of the last byte are 0. The payloads are those of
the paper's Eq. (1); the check sum finds damage, not forgery.

Source: Teerapittayanon et al. 2017, Section III-E, for the payloads; the frame is ours.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CLASS_VECTOR",
    "FEATURES",
    "FIXED_POINT",
    "OVERHEAD",
    "Frame",
    "pack_bits",
    "pack_words",
    "read_frame",
    "unpack_bits",
    "write_frame",
]

CLASS_VECTOR, FEATURES, FIXED_POINT = 1, 2, 3
OVERHEAD = 20
"""Bytes of a frame beside its payload."""

_HEADER = struct.Struct("<2sBBHBxII")
_MAGIC, _VERSION = b"DN", 1


@dataclass(frozen=True)
class Frame:
    """One message.

    Attributes:
        kind: `CLASS_VECTOR`, `FEATURES` or `FIXED_POINT`.
        device: Number of the device.
        sample: Number of the sample.
        payload: Its payload.
        fraction_bits: Of a fixed-point class vector.
    """

    kind: int
    device: int
    sample: int
    payload: bytes
    fraction_bits: int = 0

    def class_vector(self) -> NDArray[np.float32]:
        """The class vector `(classes,)` float32.

        Raises:
            ValueError: The frame holds none.
        """
        if self.kind == FEATURES or len(self.payload) % 4:
            raise ValueError(
                f"Expected a class vector, but got {len(self.payload)} bytes of kind {self.kind}."
            )
        if self.kind == CLASS_VECTOR:
            return np.frombuffer(self.payload, "<f4").astype(np.float32)
        fixed = np.frombuffer(self.payload, "<i4")
        return (fixed / 2.0**self.fraction_bits).astype(np.float32)

    def features(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """The feature map in the given shape, -1 and +1 float32.

        Raises:
            ValueError: The frame holds none of that size.
        """
        count = int(np.prod(shape))
        if self.kind != FEATURES or len(self.payload) != -(-count // 8):
            raise ValueError(
                f"Expected a feature map of {-(-count // 8)} bytes for {shape}, but got "
                f"{len(self.payload)} bytes of kind {self.kind}."
            )
        return unpack_bits(np.frombuffer(self.payload, np.uint8), shape)


def read_frame(content: bytes) -> Frame:
    """Reads one whole frame.

    Raises:
        ValueError: It is cut off, too long, damaged, or of another version or kind.
    """
    if len(content) < OVERHEAD:
        raise ValueError(f"Expected a frame of at least {OVERHEAD} bytes, but got {len(content)}.")
    magic, version, kind, device, fraction, sample, length = _HEADER.unpack_from(content)
    if magic != _MAGIC or version != _VERSION:
        raise ValueError(f"Expected a frame of version {_VERSION}, but it begins with {content[:3]!r}.")
    if len(content) != length + OVERHEAD:
        raise ValueError(f"Expected a frame of {length + OVERHEAD} bytes, but got {len(content)}.")
    if zlib.crc32(content[:-4]) != int.from_bytes(content[-4:], "little"):
        raise ValueError("The frame is damaged: its check sum differs.")
    if kind not in (CLASS_VECTOR, FEATURES, FIXED_POINT):
        raise ValueError(f"Expected a frame of kind 1, 2 or 3, but got {kind}.")
    return Frame(kind, device, sample, content[_HEADER.size : -4], fraction)


def write_frame(frame: Frame) -> bytes:
    """The bytes of a frame.

    Raises:
        ValueError: A number that does not fit its field.
    """
    try:
        header = _HEADER.pack(
            _MAGIC, _VERSION, frame.kind, frame.device, frame.fraction_bits, frame.sample, len(frame.payload)
        )
    except struct.error as error:
        raise ValueError(f"The frame's numbers do not fit their fields: {error}.") from None
    content = header + frame.payload
    return content + zlib.crc32(content).to_bytes(4, "little")


def pack_bits(features: NDArray[Any]) -> NDArray[np.uint8]:
    """Feature maps `(samples, ...)`, above 0 for a set bit, to `(samples, bytes)` uint8."""
    flat = features.reshape(len(features), -1) > 0
    return np.packbits(flat, axis=1, bitorder="little")


def pack_words(bits: NDArray[np.bool_]) -> NDArray[np.uint32]:
    """`(samples, bits)` bool to `(samples, words)` uint32 in the same order, as the exported C holds them."""
    padded = np.pad(bits, [(0, 0), (0, -bits.shape[1] % 32)])
    return pack_bits(np.ascontiguousarray(padded)).view("<u4")


def unpack_bits(packed: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Packed bits `(..., bytes)` to -1 and +1 float32 `(..., *shape)`."""
    bits = np.unpackbits(packed, axis=-1, count=int(np.prod(shape)), bitorder="little")
    return (2.0 * bits - 1.0).astype(np.float32).reshape(*packed.shape[:-1], *shape)
