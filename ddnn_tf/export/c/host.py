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
from numpy.typing import NDArray

from ddnn_tf.export.c.source import Member, Source
from ddnn_tf.frames import pack_words

__all__ = ["Library", "compiler", "read_outputs", "write_outputs"]

_FLAGS = ("-std=c99", "-ffp-contract=off", "-shared", "-fPIC")
_FAST = ("-O3", "-march=native", "-DDDNN_FAST")
_PORTABLE = ("-O3", "-DDDNN_FAST")
_PLAIN = ("-Os",)
_LOOP_FILE = "run-many.c"  # no network can have this name
_LOOP = """\
#include "{name}.h"
#include <stddef.h>

size_t scratch_bytes(void) {{ return sizeof({name}_scratch); }}
size_t output_bytes(void) {{ return sizeof({name}_output); }}

void run_many(const void *inputs, size_t count, size_t input_bytes, {name}_scratch *scratch,
              {name}_output *outputs)
{{
    for (size_t i = 0; i < count; i++)
        {name}_run((const void *)((const char *)inputs + i * input_bytes), scratch, outputs + i);
}}
"""


class Library:
    """An exported network, compiled and loaded.

    Args:
        source: The network.
        fast: The fast build, for the vectors of this processor; else the small one.

    Raises:
        OSError: No C compiler, or it refuses the code.
        ValueError: The code gives another size of output than it is described to.
    """

    def __init__(self, source: Source, *, fast: bool = True) -> None:
        self.source = source
        with tempfile.TemporaryDirectory() as place:
            self._library = _compiled(source, Path(place), fast)
        self._library.scratch_bytes.restype = self._library.output_bytes.restype = ctypes.c_size_t
        described, given = 4 * sum(member.words for member in source.outputs), self._library.output_bytes()
        if given != described:
            raise ValueError(f"'{source.name}' gives {given} bytes, but is described as giving {described}.")
        self._library.run_many.argtypes = [
            ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p,
        ]  # fmt: skip
        self._own = threading.local()  # each thread's scratch
        self.scratch_bytes: int = self._library.scratch_bytes()
        """Bytes of its scratch structure."""

    def run(self, inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Runs it; other threads may run it at the same time.

        Args:
            inputs: `(samples, height, width, channels)`: uint8 pixels, or bool if the input is bits.

        Returns:
            By output `(samples, ...)`: bool bits, float32, or int32 (also in fixed point).

        Raises:
            ValueError: Inputs of another shape or type.
        """
        source = self.source
        dtype = np.dtype(np.bool_ if source.is_binary else np.uint8)
        if inputs.shape[1:] != source.input_shape or inputs.dtype != dtype:
            raise ValueError(
                f"Expected inputs (samples, {', '.join(map(str, source.input_shape))}) {dtype}, but got "
                f"{inputs.shape} {inputs.dtype}."
            )
        given = np.ascontiguousarray(inputs).reshape(len(inputs), math.prod(source.input_shape))
        if source.is_binary:
            given = pack_words(given)
        outputs = self.empty(len(given))
        self.invoke(given, outputs)
        return read_outputs(source.outputs, outputs)

    def empty(self, samples: int) -> NDArray[np.uint32]:
        """Room for the output structures of some samples, `(samples, words)` uint32."""
        return np.zeros((samples, sum(member.words for member in self.source.outputs)), np.uint32)

    def invoke(self, given: NDArray[Any], outputs: NDArray[np.uint32]) -> None:
        """Only the C: no checks, and nothing packed or unpacked.

        Args:
            given: `(samples, ...)` contiguous: uint8 pixels, or uint32 words of bits (`pack_words`).
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
    (place / _LOOP_FILE).write_text(_LOOP.format(name=source.name), encoding="utf-8")
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
