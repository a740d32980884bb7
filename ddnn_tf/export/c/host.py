"""Exported C, compiled for this machine and called from Python; needs a C compiler, and no TensorFlow."""

from __future__ import annotations

import ctypes
import math
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ddnn_tf.export.c.source import Member, Source
from ddnn_tf.frames import pack_words
from ddnn_tf.integers import check_inputs

__all__ = ["Library", "as_keras", "compiler", "read_outputs", "write_outputs"]

_FLAGS = ("-std=c99", "-ffp-contract=off", "-shared", "-fPIC")
_FAST = ("-O3", "-march=native", "-DDDNN_FAST")
_PORTABLE = ("-O3", "-DDDNN_FAST")
_PLAIN = ("-Os",)
_LOOP_FILE = "run-many.c"  # no network can have this name
_LOOP = """\
#include "{name}.h"
#include <stddef.h>

size_t input_bytes(void) {{ return {upper}_INPUT_BYTES; }}
size_t scratch_bytes(void) {{ return sizeof({name}_scratch); }}
size_t output_bytes(void) {{ return sizeof({name}_output); }}

void run_many(const void *inputs, size_t count, size_t input_bytes, {name}_scratch *scratch,
              {name}_output *outputs)
{{
    for (size_t i = 0; i < count; i++)
        {name}_run((const void *)((const char *)inputs + i * input_bytes), scratch, outputs + i);
}}
"""
_ENCODE_LOOP = """
void encode_many(const float *readings, size_t count, size_t values, uint8_t *codes)
{{
    for (size_t i = 0; i < count; i++)
        {name}_encode(readings + i * values, codes + i * values);
}}
"""


class Library:
    """An exported network, compiled and loaded.

    Args:
        source: The network.
        fast: The fast build, for the vectors of this processor; else the small one.

    Raises:
        OSError: No C compiler, or it refuses the code.
        ValueError: The code takes another size of input, or gives another one of output, than it is
            described to.
    """

    def __init__(self, source: Source, *, fast: bool = True) -> None:
        self.source = source
        with tempfile.TemporaryDirectory() as place:
            self._library = _compiled(source, Path(place), fast)
        for name in ("input_bytes", "scratch_bytes", "output_bytes"):
            getattr(self._library, name).restype = ctypes.c_size_t
        size = math.prod(source.input_shape)
        described, taken = 4 * -(-size // 32) if source.is_binary else size, self._library.input_bytes()
        if taken != described:
            raise ValueError(f"'{source.name}' takes {taken} bytes, but is described as taking {described}.")
        described, given = 4 * sum(member.words for member in source.outputs), self._library.output_bytes()
        if given != described:
            raise ValueError(f"'{source.name}' gives {given} bytes, but is described as giving {described}.")
        self._library.run_many.argtypes = [
            ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p,
        ]  # fmt: skip
        if source.coding is not None:
            self._library.encode_many.argtypes = [
                ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_void_p,
            ]  # fmt: skip
        self._own = threading.local()  # each thread's scratch
        self.scratch_bytes: int = self._library.scratch_bytes()
        """Bytes of its scratch structure."""

    def run(self, inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Runs it; other threads may run it at the same time.

        Args:
            inputs: `(samples, *input_shape)`: uint8 codes, or bool if the input is bits.

        Returns:
            By output `(samples, ...)`: bool bits, float32, or int32 (also in fixed point).

        Raises:
            ValueError: Inputs of another shape or type.
        """
        source = self.source
        check_inputs(inputs, source.input_shape, source.is_binary)
        given = np.ascontiguousarray(inputs).reshape(len(inputs), math.prod(source.input_shape))
        if source.is_binary:
            given = pack_words(given)
        outputs = self.empty(len(given))
        self.invoke(given, outputs)
        return read_outputs(source.outputs, outputs)

    def encode(self, readings: ArrayLike) -> NDArray[np.uint8]:
        """Codes `(samples, *input_shape)` uint8 of a sensor's readings, as `Coding.encode` gives them.

        Args:
            readings: `(samples, *input_shape)` numbers.

        Raises:
            ValueError: The network was exported without a coding, readings of another shape, or NaN.
        """
        source = self.source
        if source.coding is None:
            raise ValueError(f"'{source.name}' was exported without a coding: its input is codes.")
        values = np.ascontiguousarray(readings, np.float32)
        if values.shape[1:] != source.input_shape or np.isnan(values).any():
            wanted = ", ".join(map(str, source.input_shape))
            raise ValueError(f"Expected readings (samples, {wanted}) without NaN, but got {values.shape}.")
        codes = np.empty(values.shape, np.uint8)
        size = math.prod(source.input_shape)
        self._library.encode_many(values.ctypes.data, len(values), size, codes.ctypes.data)
        return codes

    def empty(self, samples: int) -> NDArray[np.uint32]:
        """Room for the output structures of some samples, `(samples, words)` uint32."""
        return np.zeros((samples, sum(member.words for member in self.source.outputs)), np.uint32)

    def invoke(self, given: NDArray[Any], outputs: NDArray[np.uint32]) -> None:
        """Only the C: no checks, and nothing packed or unpacked.

        Args:
            given: `(samples, ...)` contiguous: uint8 codes, or uint32 words of bits (`pack_words`).
            outputs: `empty(samples)`; `read_outputs` makes arrays of it.
        """
        if not hasattr(self._own, "scratch"):
            self._own.scratch = np.zeros(-(-self.scratch_bytes // 4), np.uint32)
            self._own.address = self._own.scratch.ctypes.data
        self._library.run_many(
            given.ctypes.data,
            len(given),
            given.nbytes // max(1, len(given)),
            self._own.address,
            outputs.ctypes.data,
        )


def read_outputs(members: tuple[Member, ...], words: NDArray[np.uint32]) -> dict[str, NDArray[Any]]:
    """Output structures `(samples, words)` uint32 to arrays by name."""
    found: dict[str, NDArray[Any]] = {}
    at = 0
    for member in members:
        part = np.ascontiguousarray(words[:, at : at + member.words])
        at += member.words
        if member.kind == "bits":
            bits = np.unpackbits(part.view(np.uint8), axis=1, count=member.size, bitorder="little")
            values: NDArray[Any] = bits.astype(np.bool_)
        else:
            values = part.view(np.float32 if member.kind == "float32" else np.int32)
        found[member.name] = values.reshape(len(words), *member.shape)
    return found


def as_keras(
    answers: Mapping[str, NDArray[Any]], fraction_bits: int | None
) -> dict[str, NDArray[np.float32]]:
    """What `Library.run` gives as Keras gives it: float32, bits as -1 and +1.

    Args:
        answers: `(samples, ...)` by output: bool, float32 or int32.
        fraction_bits: Of fixed-point numbers; None: int32 are plain integers.
    """
    unit = 2.0 ** (fraction_bits or 0)
    arrays: dict[str, NDArray[np.float32]] = {}
    for name, values in answers.items():
        if values.dtype == np.bool_:
            arrays[name] = np.where(values, 1, -1).astype(np.float32)
        elif values.dtype == np.int32:
            arrays[name] = (values / unit).astype(np.float32)
        else:
            arrays[name] = values.astype(np.float32, copy=False)
    return arrays


def write_outputs(members: tuple[Member, ...], found: Mapping[str, NDArray[Any]]) -> NDArray[np.uint32]:
    """Arrays by name, of the types that `Library.run` gives, to output structures `(samples, words)`."""
    parts = []
    for member in members:
        values = found[member.name]
        flat = values.reshape(len(values), -1)
        if member.kind == "bits":
            parts.append(pack_words(flat > 0))
        else:
            number = np.float32 if member.kind == "float32" else np.int32
            parts.append(np.ascontiguousarray(flat, number).view(np.uint32))
    return np.concatenate(parts, axis=1)


def compiler() -> str:
    """The C compiler: `$CC`, or what this machine has.

    Raises:
        FileNotFoundError: There is none.
    """
    for name in (os.environ.get("CC"), "cc", "gcc", "clang"):
        found = shutil.which(name) if name else None
        if found:
            return found
    raise FileNotFoundError("There is no C compiler: install gcc or clang, or set CC to one.")


def _compiled(source: Source, place: Path, fast: bool) -> ctypes.CDLL:
    (place / f"{source.name}.h").write_text(source.header, encoding="utf-8")
    (place / f"{source.name}.c").write_text(source.source, encoding="utf-8")
    loops = _LOOP if source.coding is None else _LOOP + _ENCODE_LOOP
    (place / _LOOP_FILE).write_text(
        loops.format(name=source.name, upper=source.name.upper()), encoding="utf-8"
    )
    library = place / "network.so"
    errors = ""
    # A compiler that does not know this processor still makes good code for its family.
    for options in (_FAST, _PORTABLE) if fast else (_PLAIN,):
        command = [compiler(), *_FLAGS, *options, "-o", library, f"{source.name}.c", _LOOP_FILE]
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return ctypes.CDLL(str(library))
        errors = (done.stderr.strip().splitlines() or ["no message"])[0]
    raise OSError(f"'{compiler()}' refuses {source.name}.c: {errors}")
