"""Binary networks as bit-exact C99 for microcontrollers.

Any chain of binary Keras or Larq layers (`folding.fold` lists them), not only a device's section:

    >>> exported = export_c(model)  # doctest: +SKIP
    >>> exported.predict(images)  # doctest: +SKIP
    >>> exported.save("firmware/network")  # doctest: +SKIP
    >>> load("firmware/network").predict(images)  # doctest: +SKIP

`predict` runs the very C that `save` writes: network.h, network.c and network.json.

`load` and what it returns need a C compiler, and neither TensorFlow nor Larq.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import ConfigDict, Field, PositiveInt, ValidationError

from ddnn_tf.documents import Strict, atomic_write, one_sentence
from ddnn_tf.export.c.host import Library, as_keras
from ddnn_tf.export.c.source import Member, Source, write
from ddnn_tf.input_range import InputRange, check_input_range
from ddnn_tf.specs import Coding

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["CModel", "export_c", "load", "read_source", "source_files"]


class CModel:
    """A network in C that is used like a Keras model.

    Args:
        source: The network in C.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self._library: Library | None = None

    def predict(self, inputs: ArrayLike) -> NDArray[np.float32] | dict[str, NDArray[np.float32]]:
        """Runs the C, compiled for this machine, and gives what the Keras model gives (see `folding`).

        Args:
            inputs: `(samples, ...)` codes: whole numbers 0..255, also if the model was trained on scaled ones
                (`export_c`); if the model binarizes its input, any numbers.

        Returns:
            `(samples, ...)` float32, bits as -1 and +1; a dictionary if the model's outputs have names.

        Raises:
            OSError: No C compiler.
            ValueError: Inputs of another shape, or that are no codes.
        """
        answers = as_keras(self.library.run(self._codes(inputs)), self.source.fraction_bits)
        return answers["output"] if set(answers) == {"output"} else answers

    def encode(self, readings: ArrayLike) -> NDArray[np.uint8]:
        """Runs the C that makes codes of a sensor's readings: what `predict` takes.

        Args:
            readings: `(samples, ...)` numbers, of the shape of the model's input.

        Returns:
            `(samples, ...)` uint8.

        Raises:
            OSError: No C compiler.
            ValueError: The model was exported without a coding, readings of another shape, or NaN.
        """
        return self.library.encode(readings)

    @property
    def library(self) -> Library:
        """The compiled code; compiled when it is first asked for."""
        if self._library is None:
            self._library = Library(self.source)
        return self._library

    def save(self, path: str | Path) -> None:
        """Writes `<name>.h`, `<name>.c` and `<name>.json` into a directory, which is made if need be."""
        place = Path(path)
        place.mkdir(parents=True, exist_ok=True)
        for name, content in source_files(self.source).items():
            with atomic_write(place / name) as aside:
                aside.write_bytes(content)

    def _codes(self, inputs: ArrayLike) -> NDArray[Any]:
        values = np.asarray(inputs)
        if self.source.is_binary:
            return values >= 0 if values.dtype != np.bool_ else values
        if values.dtype == np.uint8:
            return values
        codes = values.astype(np.uint8)
        if not np.array_equal(codes, values):
            raise ValueError(
                "Expected `inputs` to be whole numbers 0..255, but got others: pixels are not scaled before "
                "they go into the network, and readings become codes by `encode`."
            )
        return codes


def export_c(
    model: tf.keras.Model,
    *,
    name: str | None = None,
    fixed_point: bool = False,
    coding: Coding | None = None,
    input_scale: float | None = None,
    input_offset: float = 0.0,
) -> CModel:
    """Converts a binary Keras or Larq model.

    The C takes codes 0..255, such as pixels. A model that was trained on `input_scale * code + input_offset`
    is told here; for code / 127.5 - 1:

        >>> exported = export_c(model, input_scale=1 / 127.5, input_offset=-1)  # doctest: +SKIP

    The C then gives what Keras gives on the scaled inputs, but for Keras's rounding of these: it sums the
    codes exactly, and scale and offset are in the thresholds behind the first layer. The exact sum of the
    scaled inputs, rounded once to float32, is what the trained batch norm compares. A bit can differ from
    Keras's only where batch norm maps a sum to within `InputRange.rounding` of zero. Without a scale, or with
    one that is a power of two and an offset that is a multiple of it, all is equal.

    Args:
        model: A chain of layers that fold (see `folding.fold`).
        name: Prefix of everything public in the C, and of the files. None: the model's own name.
        fixed_point: Numbers as int32 with a power of two as the unit, for processors without floats.
        coding: How physical readings become the codes that the model takes: adds a C function for it.
        input_scale: What the codes were multiplied by in training; None: nothing, or a Rescaling layer in
            the model does it.
        input_offset: What was added then.

    Raises:
        ImportError: Jinja2 is not installed.
        ValueError: A layer that does not fold, by name, a name that is no C identifier, a coding of other
            channels, or a model whose first batch norm saw other inputs in training than those declared.
    """
    from ddnn_tf.folding import fold  # here, because `load` does without TensorFlow

    chosen = re.sub(r"[^a-z0-9_]", "_", model.name.lower()) if name is None else name
    title = f"model '{model.name}'"
    inputs = None
    if input_scale is not None or input_offset:
        inputs = InputRange(1.0 if input_scale is None else float(input_scale), float(input_offset))
        title += f" of {inputs.scale:.9g} times the input plus {inputs.offset:.9g}"
    network = fold(model, inputs)
    check_input_range(model, inputs)
    return CModel(write(network, chosen, title=title, fixed_point=fixed_point, coding=coding))


def load(path: str | Path) -> CModel:
    """Reads what `CModel.save` or `ddnn export-c` wrote.

    Args:
        path: The directory.

    Raises:
        FileNotFoundError: There is no exported network.
        ValueError: There are several, or one is damaged.
    """
    place = Path(path)
    found = [file for file in sorted(place.glob("*.json")) if file.with_suffix(".c").is_file()]
    if not found:
        raise FileNotFoundError(f"There is no exported network in '{place}': make one with `ddnn export-c`.")
    if len(found) > 1:
        names = ", ".join(file.stem for file in found)
        raise ValueError(f"Expected one exported network in '{place}', but it holds {names}.")
    files = (found[0].with_suffix(suffix) for suffix in (".h", ".c", ".json"))
    return CModel(read_source({file.name: file.read_bytes() for file in files}))


def source_files(source: Source) -> dict[str, bytes]:
    """The files of a network in C, by name: the source, its header, and a description in JSON."""
    description = _Description(
        name=source.name,
        input_shape=source.input_shape,
        is_binary=source.is_binary,
        outputs=tuple(_DescribedMember(**asdict(member)) for member in source.outputs),
        fraction_bits=source.fraction_bits,
        coding=source.coding,
    )
    return {
        f"{source.name}.c": source.source.encode(),
        f"{source.name}.h": source.header.encode(),
        f"{source.name}.json": (json.dumps(description.model_dump(mode="json"), indent=2) + "\n").encode(),
    }


def read_source(files: Mapping[str, bytes]) -> Source:
    """A network in C from its files, as `source_files` gives them.

    Raises:
        ValueError: They are damaged.
    """
    content = next((content for name, content in files.items() if name.endswith(".json")), b"")
    try:
        description = _Description.model_validate_json(content)
        return Source(
            name=description.name,
            header=files[f"{description.name}.h"].decode(),
            source=files[f"{description.name}.c"].decode(),
            input_shape=description.input_shape,
            is_binary=description.is_binary,
            outputs=tuple(Member(each.name, each.kind, each.shape) for each in description.outputs),
            fraction_bits=description.fraction_bits,
            coding=description.coding,
        )
    except ValidationError as error:
        sentence = one_sentence(error, "description")
        raise ValueError(f"The exported network is damaged: {sentence}") from None
    except (KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"The exported network is damaged: {type(error).__name__}: {error}.") from None


_Identifier = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class _DescribedMember(Strict):
    """An output in `<name>.json`."""

    model_config = ConfigDict(strict=True)

    name: _Identifier
    kind: Literal["bits", "float32", "int32"]
    shape: tuple[PositiveInt, ...]


class _Description(Strict):
    """What `<name>.json` holds."""

    model_config = ConfigDict(strict=True)

    name: _Identifier
    input_shape: Annotated[tuple[PositiveInt, ...], Field(min_length=1, max_length=3)]
    is_binary: bool
    outputs: tuple[_DescribedMember, ...]
    fraction_bits: Annotated[int, Field(ge=0, le=31)] | None
    coding: Coding | None = None
