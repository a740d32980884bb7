"""A binary network as exact integer arithmetic, in NumPy: what every bit-exact export is made from.

A network is a chain of stages. A stage sums its inputs under weights of -1 and +1, and then either
compares each sum with a threshold, which gives one bit, or hands the sums out:

    rising filter (gamma > 0)     bit = sum >= threshold
    falling filter (gamma < 0)    bit = sum <= threshold

Max pooling moves behind the comparison, where it is the OR of bits, or, if a falling batch norm
followed it, the AND; so only bits are ever pooled. A bit stands for +1 if it is set, else for -1.
`folding.fold` makes such a network from a Keras model; nothing here needs TensorFlow.

Source: the folding is ours; the blocks are those of Teerapittayanon et al. 2017, Section III-A.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["IntegerNetwork", "Output", "Pool", "Sign", "Stage", "Window"]

Shape = tuple[int, int, int]
HIGHEST_PIXEL = 255


@dataclass(frozen=True)
class Window:
    """How a kernel or a pool moves over an image; rows first, then columns.

    Attributes:
        size: Its rows and columns.
        stride: Its steps.
        margins: What surrounds the image: `(top, bottom)` and `(left, right)`.

    Raises:
        ValueError: A margin as large as the window, which could then stand outside of the image.
    """

    size: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    margins: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))

    def __post_init__(self) -> None:
        if any(max(margin) >= size for margin, size in zip(self.margins, self.size, strict=True)):
            raise ValueError(f"Expected margins smaller than the window {self.size}, but got {self.margins}.")

    def positions(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of what it gives on an image."""
        rows, columns = (
            (extent + sum(margin) - size) // stride + 1
            for extent, margin, size, stride in zip(
                (height, width), self.margins, self.size, self.stride, strict=True
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

    window: Window
    is_or: NDArray[np.bool_]

    def run(self, bits: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Bits `(samples, height, width, filters)` to pooled ones."""
        turned = bits ^ ~self.is_or
        pooled = np.any(list(_taps(turned, self.window, False).values()), axis=0)
        return pooled ^ ~self.is_or


@dataclass(frozen=True)
class Stage:
    """A binary convolution or dense layer, and what follows up to the next one.

    Attributes:
        weights: `(rows, columns, channels, filters)` int8, -1 or +1.
        is_dense: It takes its input flattened, in the order height, width, channel, as one pixel.
        window: How the kernel moves.
        padding: The value around the input. 0 around bits leaves the taps outside of the image out.
        sign: Makes bits of the sums; None in a stage that hands out numbers.
        pools: Poolings of the bits, in order.
        steps: What makes numbers of the sums when there is no sign: for each step a scale `(filters,)`
            float32, or None for 1, and an offset `(filters,)` float32. None: the integers themselves.
    """

    weights: NDArray[np.int8]
    is_dense: bool = False
    window: Window = Window()
    padding: int = 0
    sign: Sign | None = None
    pools: tuple[Pool, ...] = ()
    steps: tuple[tuple[NDArray[np.float32] | None, NDArray[np.float32]], ...] = ()

    @property
    def filters(self) -> int:
        """Its output channels."""
        return self.weights.shape[3]

    @property
    def taps(self) -> int:
        """Inputs of one sum."""
        return int(np.prod(self.weights.shape[:3]))

    def takes(self, shape: Shape) -> Shape:
        """The shape in which it reads an input of some shape."""
        return (1, 1, int(np.prod(shape))) if self.is_dense else shape

    def sums_shape(self, shape: Shape) -> Shape:
        """Rows, columns and filters of its sums for an input of some shape."""
        height, width, _ = self.takes(shape)
        return (*self.window.positions(height, width), self.filters)

    def gives(self, shape: Shape) -> Shape:
        """The shape of its output for an input of some shape."""
        rows, columns, filters = self.sums_shape(shape)
        for pool in self.pools:
            rows, columns = pool.window.positions(rows, columns)
        return rows, columns, filters

    def reach(self, highest: int) -> int:
        """The largest sum that inputs of at most this size can give."""
        return self.taps * max(highest, abs(self.padding))

    def sums(self, values: NDArray[np.int32]) -> NDArray[np.int32]:
        """Integers `(samples, height, width, channels)` to sums `(samples, rows, columns, filters)`."""
        height, width, channels = values.shape[1:]
        values = values.reshape(-1, *self.takes((height, width, channels)))
        # float32 is exact here: `folding.fold` lets no sum reach 2^24.
        taps = _taps(values.astype(np.float32), self.window, self.padding)
        total = sum(tap @ self.weights[at].astype(np.float32) for at, tap in taps.items())
        return np.asarray(total).astype(np.int32)

    def numbers(self, sums: NDArray[np.int32]) -> NDArray[np.int32] | NDArray[np.float32]:
        """Sums `(..., filters)` to what the stage hands out: float32, or int32 if it has no steps."""
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
        stage: Number of the stage that gives it.
        shape: Its shape without the samples: that of the stage, or flattened.
    """

    stage: int
    shape: tuple[int, ...]


@dataclass(frozen=True)
class IntegerNetwork:
    """A chain of stages.

    Attributes:
        input_shape: `(height, width, channels)` of its input.
        is_binary: The input is bits; else pixels, integers 0..255.
        stages: Its stages, from input to output.
        outputs: What it gives, by name.
    """

    input_shape: Shape
    is_binary: bool
    stages: tuple[Stage, ...]
    outputs: Mapping[str, Output]

    def shapes(self) -> list[Shape]:
        """Shape of the input and of what each stage gives."""
        found = [self.input_shape]
        for stage in self.stages:
            found.append(stage.gives(found[-1]))
        return found

    def run(self, inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Runs it.

        Args:
            inputs: `(samples, height, width, channels)`: uint8 pixels, or bool if the input is binary.

        Returns:
            By output `(samples, ...)`: bool bits, or numbers float32 or int32.

        Raises:
            ValueError: Inputs of another shape or type.
        """
        dtype = np.dtype(np.bool_ if self.is_binary else np.uint8)
        if inputs.shape[1:] != self.input_shape or inputs.dtype != dtype:
            raise ValueError(
                f"Expected inputs (samples, {', '.join(map(str, self.input_shape))}) {dtype}, but got "
                f"{inputs.shape} {inputs.dtype}."
            )
        found = {}
        values: Any = np.where(inputs, 1, -1) if self.is_binary else inputs
        for number, stage in enumerate(self.stages):
            sums = stage.sums(values.astype(np.int32))
            answer: Any
            if stage.sign is None:
                answer = stage.numbers(sums)
            else:
                answer = stage.sign.bits(sums)
                for pool in stage.pools:
                    answer = pool.run(answer)
                values = np.where(answer, 1, -1)
            for name, output in self.outputs.items():
                if output.stage == number:
                    found[name] = answer.reshape(len(inputs), *output.shape)
        return found


def _taps(values: NDArray[Any], window: Window, padding: int | bool) -> dict[tuple[int, int], NDArray[Any]]:
    """What stands under each place of a window: `(samples, rows, columns, channels)`."""
    padded = np.pad(values, [(0, 0), *window.margins, (0, 0)], constant_values=padding)
    rows, columns = window.positions(*values.shape[1:3])
    down, across = window.stride
    return {
        (y, x): padded[:, y : y + down * (rows - 1) + 1 : down, x : x + across * (columns - 1) + 1 : across]
        for y in range(window.size[0])
        for x in range(window.size[1])
    }
