"""Binary networks as bit-exact C99 for microcontrollers.

Any chain of binary Keras or Larq layers (`folding.fold` lists them), not only a device's section:

    >>> exported = convert(model)
    >>> exported.predict(images)            # runs the very C that is saved
    >>> exported.save("firmware/network")   # network.h, network.c and network.json
    >>> load("firmware/network").predict(images)

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
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from ddnn_tf.documents import atomic_write
from ddnn_tf.export.c.host import Library
from ddnn_tf.export.c.source import Member, Source, write

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["CModel", "convert", "load", "load_model", "read_source", "source_files"]


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
            inputs: `(samples, height, width, channels)`, or `(samples, features)` as the model takes them:
                whole numbers 0..255; if the model binarizes its input, any numbers.

        Returns:
            `(samples, ...)` float32, bits as -1 and +1; a dictionary if the model's outputs have names.

        Raises:
            OSError: No C compiler.
            ValueError: Inputs of another shape, or that are no pixels.
        """
        found = {name: self._number(values) for name, values in self.library.run(self._given(inputs)).items()}
        return found["output"] if set(found) == {"output"} else found

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

    def _given(self, inputs: ArrayLike) -> NDArray[Any]:
        values = np.asarray(inputs)
        shape = self.source.input_shape
        if values.ndim == 2 and shape[:2] == (1, 1):
            values = values[:, None, None, :]
        if self.source.is_binary:
            return values >= 0 if values.dtype != np.bool_ else values
        if values.dtype != np.uint8:
            pixels = values.astype(np.uint8)
            if not np.array_equal(pixels, values):
                raise ValueError(
                    "Expected `inputs` to be whole numbers 0..255, but got others: pixels are not scaled "
                    "before they go into the network."
                )
            values = pixels
        return values

    def _number(self, values: NDArray[Any]) -> NDArray[np.float32]:
        if values.dtype == np.bool_:
            return np.where(values, 1, -1).astype(np.float32)
        bits = self.source.fraction_bits
        if bits is not None and values.dtype == np.int32:
            return (values / 2.0**bits).astype(np.float32)
        return values.astype(np.float32)


def convert(model: tf.keras.Model, *, name: str | None = None, fixed_point: bool = False) -> CModel:
    """Converts a binary Keras or Larq model.

    Args:
        model: A chain of layers that fold (see `folding.fold`).
        name: Prefix of everything public in the C, and of the files. None: the model's own name.
        fixed_point: Numbers as int32 with a power of two as the unit, for processors without floats.

    Raises:
        ImportError: Jinja2 is not installed.
        ValueError: A layer that does not fold, by name, or a name that is no C identifier.
    """
    from ddnn_tf.folding import fold  # here, because `load` does without TensorFlow

    chosen = re.sub(r"[^a-z0-9_]", "_", model.name.lower()) if name is None else name
    return CModel(write(fold(model), chosen, title=f"model '{model.name}'", fixed_point=fixed_point))


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


def load_model(path: str | Path) -> tf.keras.Model:
    """Reads a saved Keras model that is made of Keras, Larq and DDNN layers.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It cannot be read.
    """
    import larq  # noqa: F401  registers its layers with Keras
    import tensorflow as tf

    import ddnn_tf.blocks  # noqa: F401  registers its layer

    if not Path(path).exists():
        raise FileNotFoundError(f"There is no model '{path}'.")
    try:
        return tf.keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises whatever its reader met
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"'{path}' is not a Keras model that can be read: {reason}") from None


def source_files(source: Source) -> dict[str, bytes]:
    """The files of a network in C, by name: the source, its header, and a description in JSON."""
    described = {
        "name": source.name,
        "input_shape": source.input_shape,
        "is_binary": source.is_binary,
        "outputs": [asdict(member) for member in source.outputs],
        "fraction_bits": source.fraction_bits,
    }
    return {
        f"{source.name}.c": source.source.encode(),
        f"{source.name}.h": source.header.encode(),
        f"{source.name}.json": (json.dumps(described, indent=2) + "\n").encode(),
    }


def read_source(files: Mapping[str, bytes]) -> Source:
    """A network in C from its files, as `source_files` gives them.

    Raises:
        ValueError: They are damaged.
    """
    content = next((content for name, content in files.items() if name.endswith(".json")), b"")
    try:
        described = _Described.model_validate_json(content)
        return Source(
            name=described.name,
            header=files[f"{described.name}.h"].decode(),
            source=files[f"{described.name}.c"].decode(),
            input_shape=described.input_shape,
            is_binary=described.is_binary,
            outputs=tuple(Member(one.name, one.kind, one.shape) for one in described.outputs),
            fraction_bits=described.fraction_bits,
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "file"
        raise ValueError(f"The exported network is damaged: its {where}: {first['msg']}.") from None
    except (KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"The exported network is damaged: {type(error).__name__}: {error}.") from None


_Identifier = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class _DescribedMember(BaseModel):
    model_config = ConfigDict(strict=True)

    name: _Identifier
    kind: Literal["bits", "float32", "int32"]
    shape: tuple[PositiveInt, ...]


class _Described(BaseModel):
    """What `<name>.json` holds."""

    model_config = ConfigDict(strict=True)

    name: _Identifier
    input_shape: tuple[PositiveInt, PositiveInt, PositiveInt]
    is_binary: bool
    outputs: list[_DescribedMember]
    fraction_bits: Annotated[int, Field(ge=0, le=31)] | None
