"""A binary network as exact integer arithmetic, in NumPy: what every bit-exact export is made from.

A network is a chain of layers. A layer sums its inputs under weights of -1 and +1, and then either
compares each sum with a threshold, which gives one bit, or hands the sums out:

    rising filter (gamma > 0)     bit = sum >= threshold
    falling filter (gamma < 0)    bit = sum <= threshold

Pixels outside of an image count as the layer's `padding`. Padding that is no whole code is a whole number
added to each sum, which shifts the comparison at the border of the image as exactly.

Max pooling moves behind the comparison, where it is the OR of bits, or, if a falling batch norm
followed it, the AND; so only bits are ever pooled. A bit stands for +1 if it is set, else for -1.
`folding.fold` makes such a network from a Keras model; nothing here needs TensorFlow.

Every layer reads an image: a series of steps is an image one row high, a vector one pixel. A network is
saved as plain arrays and read back with every array checked:

    >>> IntegerNetwork.from_bytes(network.to_bytes())  # doctest: +SKIP

Source: the folding is ours; the blocks are those of Teerapittayanon et al. 2017, Section III-A.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, PositiveInt, ValidationError

from ddnn_tf.documents import Strict, one_sentence
from ddnn_tf.specs import HIGHEST_CODE, Shape

__all__ = [
    "EXACT_SUMS",
    "ImageShape",
    "IntegerLayer",
    "IntegerNetwork",
    "Output",
    "Pool",
    "Sign",
    "SlidingWindow",
]

ImageShape = tuple[int, int, int]
"""Height, width and channels."""

EXACT_SUMS = 1 << 24
"""Sums stay below this: up to it, float32 holds every integer."""

Step = tuple[NDArray[np.float32] | None, NDArray[np.float32]]
"""A scale `(filters,)`, or None for 1, and an offset `(filters,)`."""


@dataclass(frozen=True)
class SlidingWindow:
    """How a kernel or a pool moves over an image; rows first, then columns.

    Attributes:
        size: Its rows and columns.
        stride: Its steps.
        margins: What surrounds the image: `(top, bottom)` and `(left, right)`.

    Raises:
        ValueError: A size or stride below 1, or a margin that is negative or as large as the window,
            which could then stand outside of the image.
    """

    size: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    margins: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))

    def __post_init__(self) -> None:
        if min(*self.size, *self.stride) < 1:
            raise ValueError(
                f"Expected a window and strides of at least 1, but got {self.size} and {self.stride}."
            )
        for margin, size in zip(self.margins, self.size, strict=True):
            if min(margin) < 0 or max(margin) >= size:
                raise ValueError(
                    f"Expected margins smaller than the window {self.size}, but got {self.margins}."
                )

    def positions(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of what it gives on an image."""
        rows, columns = (
            (extent + sum(margin) - size) // stride + 1
            for extent, margin, size, stride in zip(
                (height, width), self.margins, self.size, self.stride, strict=True
            )
        )
        return rows, columns

    def places(self, height: int, width: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """A number for each row and each column of what it gives on an image, from 0 on.

        Rows (or columns) have the same number where the same part of the window lies inside of the image.
        """
        rows, columns = (
            _numbered(np.arange(count) * stride - margin[0], size, extent)
            for count, stride, margin, size, extent in zip(
                self.positions(height, width),
                self.stride,
                self.margins,
                self.size,
                (height, width),
                strict=True,
            )
        )
        return rows, columns


@dataclass(frozen=True)
class Sign:
    """Threshold and direction of each filter.

    Attributes:
        thresholds: `(filters,)` int32.
        rising: `(filters,)` bool: the bit is set from the threshold on upwards, else downwards.
    """

    thresholds: NDArray[np.int32]
    rising: NDArray[np.bool_]

    def bits(self, sums: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Sums `(..., filters)` to bits."""
        return np.where(self.rising, sums >= self.thresholds, sums <= self.thresholds)


@dataclass(frozen=True)
class Pool:
    """Max pooling, on bits.

    Attributes:
        window: How it moves; what lies outside of the image does not take part.
        is_or: `(filters,)` bool: OR of the window's bits, else their AND.
    """

    window: SlidingWindow
    is_or: NDArray[np.bool_]

    def run(self, bits: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Bits `(samples, height, width, filters)` to pooled ones."""
        turned = bits ^ ~self.is_or
        pooled = np.any(list(_taps(turned, self.window, False).values()), axis=0)
        return pooled ^ ~self.is_or


@dataclass(frozen=True)
class IntegerLayer:
    """A binary convolution or dense layer, and what follows up to the next one.

    Attributes:
        weights: `(rows, columns, channels, filters)` int8, -1 or +1. A dense layer is a 1x1 convolution
            of one pixel.
        input_shape: The image that it reads: what the layer before gives, in the same order.
        window: How the kernel moves.
        padding: The value around the input. 0 around bits leaves the taps outside of the image out.
        border: `(row places, column places, filters)` int32, what is added to the sums at each place
            (`SlidingWindow.places`) for padding that is no whole code; None: nothing. Only in a first layer
            on codes, with a sign.
        sign: Makes bits of the sums; None in a layer that hands out numbers.
        pools: Poolings of the bits, in order.
        steps: What makes numbers of the sums when there is no sign: for each step a scale `(filters,)`
            float32, or None for 1, and an offset `(filters,)` float32. None: the integers themselves.

    Raises:
        ValueError: An array of another shape, type or range, or a window larger than what it moves over.
    """

    weights: NDArray[np.int8]
    input_shape: ImageShape
    window: SlidingWindow = SlidingWindow()
    padding: int = 0
    border: NDArray[np.int32] | None = None
    sign: Sign | None = None
    pools: tuple[Pool, ...] = ()
    steps: tuple[Step, ...] = ()

    def __post_init__(self) -> None:
        weights, filters = self.weights, (self.weights.shape[-1],)
        expected = (*self.window.size, self.input_shape[2])
        if weights.dtype != np.int8 or weights.shape[:-1] != expected or not (np.abs(weights) == 1).all():
            raise ValueError(
                f"Expected weights of -1 and +1, int8 ({', '.join(map(str, expected))}, filters), but got "
                f"{weights.dtype} {weights.shape}."
            )
        if min(*self.input_shape, *self.output_shape) < 1:
            raise ValueError(
                f"Expected windows that fit an image of {self.input_shape}, but its output is "
                f"{self.output_shape}."
            )
        if self.sign is not None:
            _check_array("thresholds", self.sign.thresholds, np.int32, filters)
            _check_array("directions", self.sign.rising, np.bool_, filters)
            if np.abs(self.sign.thresholds.astype(np.int64)).max() > EXACT_SUMS:
                raise ValueError(f"Expected thresholds within {EXACT_SUMS}, but got others.")
        if self.border is not None:
            _check_array("border", self.border, np.int32, (*self.places_shape, *filters))
            if self.sign is None or np.abs(self.border.astype(np.int64)).max() > 2 * EXACT_SUMS:
                raise ValueError(f"Expected a border within {2 * EXACT_SUMS} before a sign, but got another.")
        for pool in self.pools:
            _check_array("kinds of pool", pool.is_or, np.bool_, filters)
        for scale, offset in self.steps:
            if scale is not None:
                _check_array("scales", scale, np.float32, filters)
            _check_array("offsets", offset, np.float32, filters)
        if self.sign is None and self.pools:
            raise ValueError("Expected a sign before each pool, but got a layer that pools numbers.")
        if self.sign is not None and self.steps:
            raise ValueError("Expected a sign or steps, but got both.")

    @property
    def filters(self) -> int:
        """Its output channels."""
        return self.weights.shape[3]

    @property
    def taps(self) -> int:
        """Inputs of one sum."""
        return int(np.prod(self.weights.shape[:3]))

    @property
    def is_dense(self) -> bool:
        """Whether each filter is one sum over all of its input."""
        return self.input_shape[:2] == self.window.size == (1, 1) and not self.pools

    @property
    def sums_shape(self) -> ImageShape:
        """Rows, columns and filters of its sums."""
        return (*self.window.positions(*self.input_shape[:2]), self.filters)

    @property
    def places(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The place of each row and each column of its sums, as `SlidingWindow.places` numbers them."""
        return self.window.places(*self.input_shape[:2])

    @property
    def places_shape(self) -> tuple[int, int]:
        """Places of rows and of columns."""
        rows, columns = self.places
        return int(rows[-1]) + 1, int(columns[-1]) + 1

    @property
    def output_shape(self) -> ImageShape:
        """Rows, columns and filters of what it gives."""
        rows, columns, filters = self.sums_shape
        for pool in self.pools:
            rows, columns = pool.window.positions(rows, columns)
        return rows, columns, filters

    def reach(self, highest: int) -> int:
        """The largest sum that inputs of at most this size can give."""
        return self.taps * max(highest, abs(self.padding))

    def sums(self, values: NDArray[np.int32]) -> NDArray[np.int32]:
        """Integers `(samples, ...)` to sums `(samples, rows, columns, filters)`."""
        values = values.reshape(len(values), *self.input_shape)
        # float32 is exact here: a network refuses layers whose sums reach 2^24.
        taps = _taps(values.astype(np.float32), self.window, self.padding)
        total = sum(tap @ self.weights[place].astype(np.float32) for place, tap in taps.items())
        sums = np.asarray(total).astype(np.int32)
        return sums if self.border is None else sums + self.border[np.ix_(*self.places)]

    def bits(self, sums: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Sums `(samples, rows, columns, filters)` to pooled bits.

        Raises:
            ValueError: The layer gives numbers.
        """
        if self.sign is None:
            raise ValueError("Expected a layer with a sign, but this one gives numbers.")
        bits = self.sign.bits(sums)
        for pool in self.pools:
            bits = pool.run(bits)
        return bits

    def numbers(self, sums: NDArray[np.int32]) -> NDArray[np.int32] | NDArray[np.float32]:
        """Sums `(..., filters)` to what the layer hands out: float32, or int32 if it has no steps."""
        if not self.steps:
            return sums
        numbers = sums.astype(np.float32)
        for scale, offset in self.steps:
            numbers = (numbers if scale is None else numbers * scale) + offset
        return numbers


@dataclass(frozen=True)
class Output:
    """One output of a network.

    Attributes:
        layer: Number of the layer that gives it.
        shape: Its shape without the samples, as the Keras model has it.
    """

    layer: int
    shape: tuple[PositiveInt, ...]


@dataclass(frozen=True)
class IntegerNetwork:
    """A chain of layers.

    Attributes:
        input_shape: Shape of its input without the samples: `(height, width, channels)`,
            `(steps, channels)` or `(features,)`.
        is_binary: The input is bits; else 8-bit codes, 0..255.
        layers: Its layers, from input to output.
        outputs: What it gives, by name.

    Raises:
        ValueError: Layers that do not fit one another, outputs that no layer gives, or sums that float32
            does not hold exactly.
    """

    input_shape: Shape
    is_binary: bool
    layers: tuple[IntegerLayer, ...]
    outputs: Mapping[str, Output]

    def __post_init__(self) -> None:
        if not self.layers or not self.outputs:
            raise ValueError("Expected a network of at least one layer and one output, but got none.")
        size, highest = math.prod(self.input_shape), 1 if self.is_binary else HIGHEST_CODE
        for number, layer in enumerate(self.layers):
            if math.prod(layer.input_shape) != size:
                raise ValueError(f"Layer {number} reads {layer.input_shape}, but {size} values reach it.")
            if highest == 1 and layer.padding not in (-1, 0, 1):
                raise ValueError(f"Layer {number} pads bits with {layer.padding}: only -1, 0 and 1 can be.")
            if layer.border is not None and (number or self.is_binary):
                raise ValueError(f"Layer {number} has a border, which only a first layer on codes can have.")
            if layer.reach(highest) >= EXACT_SUMS:
                raise ValueError(f"Layer {number} has sums up to {layer.reach(highest)}, 2^24 or more.")
            if layer.sign is None and number < len(self.layers) - 1:
                raise ValueError(f"Layer {number} gives numbers to another layer, which takes bits.")
            size, highest = math.prod(layer.output_shape), 1
        given = [output.layer for output in self.outputs.values()]
        for name, output in self.outputs.items():
            if not 0 <= output.layer < len(self.layers) or given.count(output.layer) > 1:
                raise ValueError(f"The output '{name}' is of layer {output.layer}: give each layer's once.")
            if math.prod(output.shape) != math.prod(self.layers[output.layer].output_shape):
                raise ValueError(f"The output '{name}' of shape {output.shape} is not what its layer gives.")

    def run(self, inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Runs it.

        Args:
            inputs: `(samples, *input_shape)`: uint8 codes, or bool if the input is binary.

        Returns:
            By output `(samples, ...)`: bool bits, or numbers float32 or int32.

        Raises:
            ValueError: Inputs of another shape or type.
        """
        check_inputs(inputs, self.input_shape, self.is_binary)
        answers: dict[str, NDArray[Any]] = {}
        values: Any = np.where(inputs, 1, -1) if self.is_binary else inputs
        for number, layer in enumerate(self.layers):
            sums = layer.sums(values.astype(np.int32))
            answer: Any = layer.numbers(sums) if layer.sign is None else layer.bits(sums)
            for name, output in self.outputs.items():
                if output.layer == number:
                    answers[name] = answer.reshape(len(inputs), *output.shape)
            values = np.where(answer, 1, -1)
        return answers

    def to_bytes(self) -> bytes:
        """The network as an `.npz` file: a description in JSON, and an array for each table of a layer.

        Equal networks give equal bytes.
        """
        arrays: dict[str, NDArray[Any]] = {}
        described = []
        for number, layer in enumerate(self.layers):
            arrays |= {f"{number}.{name}": array for name, array in _tables(layer).items()}
            described.append(_described(layer))
        description = _Description(
            format=1,
            input_shape=self.input_shape,
            is_binary=self.is_binary,
            layers=tuple(described),
            outputs=dict(self.outputs),
        )
        text = json.dumps(description.model_dump(mode="json")).encode()
        content = io.BytesIO()
        np.savez(content, description=np.frombuffer(text, np.uint8), **arrays)
        return content.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> IntegerNetwork:
        """Reads what `to_bytes` wrote; nothing in it is run or trusted.

        Raises:
            ValueError: It is damaged.
        """
        try:
            arrays = _arrays(content)
            description = _Description.model_validate_json(arrays.pop("description").tobytes())
            layers = tuple(
                _layer(described, number, arrays) for number, described in enumerate(description.layers)
            )
            if arrays:
                raise ValueError(f"it holds the unknown array '{next(iter(arrays))}'")
            return cls(description.input_shape, description.is_binary, layers, description.outputs)
        except ValidationError as error:
            raise ValueError(
                f"The integer network is damaged: {one_sentence(error, 'description')}"
            ) from None
        except KeyError as error:
            raise ValueError(f"The integer network is damaged: it lacks the array {error}.") from None
        except ValueError as error:
            raise ValueError(f"The integer network is damaged: {str(error).rstrip('.')}.") from None


def check_inputs(inputs: NDArray[Any], shape: Shape, is_binary: bool) -> None:
    """That inputs are `(samples, *shape)`, uint8 codes or bool bits.

    Raises:
        ValueError: They are not.
    """
    dtype = np.dtype(np.bool_ if is_binary else np.uint8)
    if inputs.shape[1:] != shape or inputs.dtype != dtype:
        raise ValueError(
            f"Expected inputs (samples, {', '.join(map(str, shape))}) {dtype}, but got "
            f"{inputs.shape} {inputs.dtype}."
        )


class _DescribedLayer(Strict):
    """A layer without its tables; `filters` and `input_shape` say how large these are."""

    model_config = ConfigDict(strict=True)

    input_shape: tuple[PositiveInt, PositiveInt, PositiveInt]
    filters: PositiveInt
    window: SlidingWindow
    padding: int
    has_border: bool = False
    has_sign: bool
    pools: tuple[SlidingWindow, ...]
    is_scaled: tuple[bool, ...]


class _Description(Strict):
    """What a saved network holds beside its tables."""

    model_config = ConfigDict(strict=True)

    format: Literal[1]
    input_shape: Annotated[tuple[PositiveInt, ...], Field(min_length=1, max_length=3)]
    is_binary: bool
    layers: tuple[_DescribedLayer, ...]
    outputs: dict[str, Output]


def _described(layer: IntegerLayer) -> _DescribedLayer:
    return _DescribedLayer(
        input_shape=layer.input_shape,
        filters=layer.filters,
        window=layer.window,
        padding=layer.padding,
        has_border=layer.border is not None,
        has_sign=layer.sign is not None,
        pools=tuple(pool.window for pool in layer.pools),
        is_scaled=tuple(scale is not None for scale, _ in layer.steps),
    )


def _tables(layer: IntegerLayer) -> dict[str, NDArray[Any]]:
    """A layer's arrays by name; the weights as packed bits, set for +1."""
    tables: dict[str, NDArray[Any]] = {"weights": np.packbits(layer.weights > 0)}
    if layer.border is not None:
        tables["border"] = layer.border
    if layer.sign is not None:
        tables |= {"thresholds": layer.sign.thresholds, "rising": layer.sign.rising}
    for number, pool in enumerate(layer.pools):
        tables[f"is_or_{number}"] = pool.is_or
    for number, (scale, offset) in enumerate(layer.steps):
        if scale is not None:
            tables[f"scale_{number}"] = scale
        tables[f"offset_{number}"] = offset
    return tables


def _layer(described: _DescribedLayer, number: int, arrays: dict[str, NDArray[Any]]) -> IntegerLayer:
    """A layer of its description and its tables, which are taken out of `arrays`."""

    def table(name: str) -> NDArray[Any]:
        return arrays.pop(f"{number}.{name}")

    shape = (*described.window.size, described.input_shape[2], described.filters)
    size, packed = math.prod(shape), table("weights")
    _check_array("packed weights", packed, np.uint8, (-(-size // 8),))
    bits = np.unpackbits(packed, count=size).reshape(shape)
    sign = Sign(table("thresholds"), table("rising")) if described.has_sign else None
    return IntegerLayer(
        weights=np.where(bits, 1, -1).astype(np.int8),
        input_shape=described.input_shape,
        window=described.window,
        padding=described.padding,
        border=table("border") if described.has_border else None,
        sign=sign,
        pools=tuple(Pool(window, table(f"is_or_{at}")) for at, window in enumerate(described.pools)),
        steps=tuple(
            (table(f"scale_{at}") if is_scaled else None, table(f"offset_{at}"))
            for at, is_scaled in enumerate(described.is_scaled)
        ),
    )


def _arrays(content: bytes) -> dict[str, NDArray[Any]]:
    """The arrays of an `.npz` file.

    Raises:
        ValueError: It is none, or would be larger in memory than it is as a file.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > len(content):
                raise ValueError("it is compressed")
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"it is no .npz file ({error})") from None


def _check_array(name: str, array: NDArray[Any], dtype: Any, shape: tuple[int, ...]) -> None:
    if array.dtype != np.dtype(dtype) or array.shape != shape:
        raise ValueError(f"Expected {name} {np.dtype(dtype)} {shape}, but got {array.dtype} {array.shape}.")
    if not np.isfinite(array).all():
        raise ValueError(f"Expected {name} that are finite, but got others.")


def _numbered(starts: NDArray[np.intp], size: int, extent: int) -> NDArray[np.intp]:
    """Numbers of windows that start at some pixels, equal where they stand out of the image equally far."""
    outside = np.stack([np.maximum(-starts, 0), np.maximum(starts + size - extent, 0)])
    is_new = np.diff(outside, prepend=outside[:, :1]).any(axis=0)
    return np.cumsum(is_new)


def _taps(
    values: NDArray[Any], window: SlidingWindow, padding: int | bool
) -> dict[tuple[int, int], NDArray[Any]]:
    """What stands under each place of a window: `(samples, rows, columns, channels)`."""
    padded = np.pad(values, [(0, 0), *window.margins, (0, 0)], constant_values=padding)
    rows, columns = window.positions(*values.shape[1:3])
    down, across = window.stride
    return {
        (y, x): padded[:, y : y + down * (rows - 1) + 1 : down, x : x + across * (columns - 1) + 1 : across]
        for y in range(window.size[0])
        for x in range(window.size[1])
    }
