"""Folds a trained Keras or Larq model into exact integer arithmetic (`integers`).

The comparison of a sum with a threshold must fall as it does in Keras, also for a sum that batch norm
maps to about zero and whose side rounding decides. So the thresholds are not computed from the formula
of batch norm: the trained layers themselves are asked, and since each is monotone, a bisection over the
integers finds where their answer turns.

Codes go in as 0..255: pixels, or a sensor's coded readings. If the model was trained on
`scale * code + offset` (told, or by a Rescaling layer), the network sums the codes, and each threshold takes
in scale and offset: the sum of the scaled codes, exact and rounded to float32 once, goes through the trained
layers. Keras rounds each scaled code and each addition, so one of its bits may differ where batch norm maps
a sum to within that rounding (`InputRange.rounding`) of zero. A scale that is a power of two with an offset
that is a multiple of it rounds nothing in Keras either: then all is equal.

    >>> network = fold(sections["device_0"].model)  # doctest: +SKIP
    >>> network.run(codes)  # codes (samples, ...) uint8  # doctest: +SKIP

What is equal is what Keras gives layer by layer, `model(X)`. `model.predict` gives the same, unless
TensorFlow fuses a convolution with a batch norm right behind it (oneDNN, on x86; a pool between them
prevents it): then the last digit of a number differs, and a bit where batch norm maps a whole sum to
about zero.

Layers that fold, in a chain: QuantConv2D, QuantDense, MaxPooling2D, BatchNormalization, signs (as
layers, activations or input quantizers), Flatten, Reshape, Rescaling of the codes, Dropout (nothing at
inference), and a Softmax at the end, which is left off. Inputs are images, series or vectors.

Source: Teerapittayanon et al. 2017, Section III-A, Figure 3; the folding is ours.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import larq as lq
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ddnn_tf.blocks import PaddedMaxPool2D
from ddnn_tf.input_range import InputRange
from ddnn_tf.integers import (
    EXACT_SUMS,
    IntegerLayer,
    IntegerNetwork,
    Output,
    Pool,
    Sign,
    SlidingWindow,
    Step,
)
from ddnn_tf.specs import HIGHEST_CODE, Shape

__all__ = ["affine", "fold", "fold_sign", "signs"]

# A whole code around an image may be as large: the C holds it in 16 bits. Any other becomes a border.
_LARGEST_PADDING = 32767
_PROBES = np.array([-2, -1, -1e-3, 0, 1e-3, 1, 2], dtype=np.float32)

Function = Callable[[tf.Tensor], tf.Tensor]


def fold(model: tf.keras.Model, inputs: InputRange | None = None) -> IntegerNetwork:
    """Folds a model.

    Args:
        model: A chain of layers with one input. Its outputs may be a dictionary, of bits and numbers along
            the chain; a single output is named `output`. If the first layer binarizes its input, the
            network's input is bits.
        inputs: What it was trained on; None: codes 0..255 as they are.

    Raises:
        ValueError: A layer that cannot be computed exactly in integers, by name, with the reason.
    """
    chain = _chain(model)
    folder = _Folder(model, inputs or InputRange())
    for layer, tensor in chain:
        folder.add(layer)
        folder.mark(tensor)
    return folder.finish()


def signs(layer: tf.keras.layers.Layer) -> NDArray[np.int8]:
    """The binary weights of a layer, as its quantizer gives them.

    Raises:
        ValueError: They are not -1 and +1.
    """
    quantizer = getattr(layer, "kernel_quantizer", None)
    kernel = layer.kernel.numpy()
    values = kernel if quantizer is None else np.asarray(quantizer(tf.constant(kernel)))
    if not np.isin(values, (-1, 1)).all():
        raise ValueError(
            f"The weights of '{layer.name}' are not -1 and +1: only binary weights fold to integers "
            "(kernel_quantizer='ste_sign')."
        )
    return values.astype(np.int8)


def fold_sign(
    norm: tf.keras.layers.Layer, sign: Function, reach: int
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Threshold and direction of each filter of a batch norm and a sign.

    Args:
        norm: The batch norm.
        sign: The sign.
        reach: The largest sum.

    Returns:
        `(filters,)` int32 and `(filters,)` bool. A filter that is always or never set is rising, with a
        threshold at or above the reach.

    Raises:
        ValueError: The batch norm's weights are not finite.
    """
    return _search(_answer(_norm_function(norm), sign), tuple(norm.moving_mean.shape), reach)


def affine(norm: tf.keras.layers.Layer) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Batch norm as scale and offset, in float32 and in TensorFlow's order of operations."""
    moving = (norm.moving_mean, norm.moving_variance)
    mean, variance = (tf.constant(weight.numpy()) for weight in moving)
    scale = tf.math.rsqrt(variance + norm.epsilon)
    if norm.gamma is not None:
        scale *= norm.gamma
    offset = -mean * scale if norm.beta is None else norm.beta - mean * scale
    return scale.numpy(), offset.numpy()


@dataclass
class _Pointwise:
    """Something applied to each filter alone, on `(..., filters)`."""

    call: Function
    filters: int
    name: str
    step: Step | None = None
    falling: NDArray[np.bool_] | None = None


@dataclass
class _Pooling:
    """A pool that waits for the sign behind it."""

    window: SlidingWindow
    name: str


@dataclass
class _Folder:
    """Walks down the chain; what stands between a layer's sums (or bits) and the next sign is `waiting`.

    `shape` is what Keras has at this point, and `image` the same in the last folded layer's coordinates:
    a Reshape or Flatten changes the first only. `shift` is what offset and padding add to the scaled sums of
    the first layer, `(row places, column places, filters)`; None where its sums are taken as they are.
    """

    model: tf.keras.Model
    inputs: InputRange
    folded: list[IntegerLayer] = field(default_factory=list)
    waiting: list[_Pointwise | _Pooling] = field(default_factory=list)
    outputs: dict[str, Output] = field(default_factory=dict)
    is_binary: bool = False
    shift: NDArray[np.float64] | None = None
    is_over: bool = False
    image: Shape = ()

    def __post_init__(self) -> None:
        self.input_shape: Shape = tuple(tf.nest.flatten(self.model.inputs)[0].shape[1:])
        self.shape = self.input_shape
        if len(self.shape) not in (1, 2, 3) or None in self.shape:
            raise ValueError(
                "Expected an input of (height, width, channels), (steps, channels) or (features,), but "
                f"'{self.model.name}' takes {self.shape}."
            )

    def add(self, layer: tf.keras.layers.Layer) -> None:
        """The next layer."""
        layers = tf.keras.layers
        if _is_exactly(layer, layers.InputLayer, layers.Dropout, layers.SpatialDropout2D):
            return
        if self.is_over:
            raise ValueError(f"'{layer.name}' follows a softmax, which can only stand at the end.")
        if layer.compute_dtype != "float32":
            raise ValueError(
                f"'{layer.name}' computes in {layer.compute_dtype}: only float32 is exact as C is."
            )
        if _is_exactly(layer, layers.Rescaling):
            self._rescale(layer)
        elif _is_exactly(layer, lq.layers.QuantConv2D, layers.Conv2D):
            self._weigh(layer, _convolution(layer, self.shape))
        elif _is_exactly(layer, lq.layers.QuantDense, layers.Dense):
            self._weigh(layer, _dense(layer, self.shape))
        elif _is_exactly(layer, layers.MaxPooling2D, PaddedMaxPool2D):
            self._pool(layer)
        elif _is_exactly(layer, layers.BatchNormalization):
            self._point(layer.name, _norm(layer))
        elif _is_exactly(layer, layers.Reshape):
            pass  # the order of the elements stays
        elif _is_exactly(layer, layers.Flatten) and layer.data_format == "channels_last":
            pass
        elif _is_exactly(layer, layers.Softmax):
            self._end(layer.name)
        elif _is_exactly(layer, layers.Activation):
            self._activate(layer.activation, layer.name)
        elif isinstance(layer, lq.quantizers.Quantizer):
            self._activate(layer, layer.name)
        else:
            raise ValueError(
                f"'{layer.name}' is a {type(layer).__name__}, which does not fold to integers; these do: "
                "QuantConv2D, QuantDense, MaxPooling2D, BatchNormalization, signs, Flatten, Reshape (no "
                "subclasses; channels last)."
            )

    def mark(self, tensor: tf.Tensor) -> None:
        """What the last layer gave; perhaps it is an output."""
        self.shape = tuple(tensor.shape[1:])
        for name, output in _outputs(self.model).items():
            if tensor is output:
                self._give(name)

    def finish(self) -> IntegerNetwork:
        """The whole network."""
        missing = [name for name in _outputs(self.model) if name not in self.outputs]
        if missing:
            raise ValueError(
                f"The output '{missing[0]}' of '{self.model.name}' does not lie along its chain."
            )
        layers = tuple(map(_lengthwise, self.folded))
        return IntegerNetwork(self.input_shape, self.is_binary, layers, self.outputs)

    def _rescale(self, layer: tf.keras.layers.Layer) -> None:
        if np.size(layer.scale) != 1 or np.size(layer.offset) != 1:
            raise ValueError(f"'{layer.name}' scales each channel in its own way, which does not fold.")
        if self.folded or self.waiting:
            raise ValueError(
                f"'{layer.name}' rescales what are no pixels: leave the scaling to a batch norm."
            )
        self.inputs = self.inputs.rescaled(float(np.squeeze(layer.scale)), float(np.squeeze(layer.offset)))

    def _weigh(self, layer: tf.keras.layers.Layer, weighed: IntegerLayer) -> None:
        """A layer with weights."""
        quantizer = getattr(layer, "input_quantizer", None)
        if self.folded or self.waiting or quantizer is None:
            if quantizer is not None:
                self._activate(quantizer, f"{layer.name}, input_quantizer")
            elif self.waiting or (self.folded and self.folded[-1].sign is None):
                raise ValueError(
                    f"'{layer.name}' takes numbers that are no bits: give it input_quantizer='ste_sign', or "
                    "put a sign before it."
                )
        elif self.inputs != InputRange():
            raise ValueError(f"'{layer.name}' binarizes scaled pixels: leave the scaling out.")
        else:
            _check_sign(quantizer, f"{layer.name}, input_quantizer")
            if float(quantizer(tf.constant([0.0]))[0]) != 1:
                raise ValueError(
                    f"'{layer.name}' makes -1 of an input of 0: its input_quantizer must make +1 of it."
                )
            self.is_binary = True
        pad_value = float(getattr(layer, "pad_values", 0.0))
        if not self.folded and not self.is_binary:
            weighed = self._on_codes(layer.name, weighed, pad_value)
        elif pad_value not in (-1, 0, 1):
            raise ValueError(f"'{layer.name}' pads bits with {pad_value:g}: set pad_values to -1, 0 or 1.")
        else:
            weighed = replace(weighed, padding=int(pad_value))
        self.folded.append(weighed)
        self.image = weighed.output_shape
        if layer.use_bias:
            bias = layer.bias.numpy()
            _check_finite(layer.name, [bias])
            self.waiting.append(_Pointwise(lambda x: x + bias, weighed.filters, layer.name, (None, bias)))
        if layer.activation is not None and layer.activation is not tf.keras.activations.linear:
            self._activate(layer.activation, f"{layer.name}, activation")

    def _on_codes(self, name: str, weighed: IntegerLayer, pad_value: float) -> IntegerLayer:
        """The first layer, on codes, with what they were scaled to in training."""
        inputs = self.inputs
        highest = HIGHEST_CODE + math.ceil(abs(inputs.offset / inputs.scale))
        if weighed.reach(highest) >= EXACT_SUMS:
            raise ValueError(
                f"'{name}' has sums up to {weighed.reach(highest)}: from 2^24 on Keras's float32 is not "
                "exact."
            )
        code = inputs.in_codes(pad_value)
        has_margins = any(map(any, weighed.window.margins))
        is_whole = code.is_integer() and abs(code) <= _LARGEST_PADDING
        total = weighed.weights.sum(axis=(0, 1, 2), dtype=np.float64)
        if is_whole or not has_margins:
            weighed = replace(weighed, padding=int(code) if has_margins else 0)
            if inputs != InputRange():
                self.shift = (inputs.offset * total)[None, None]
            return weighed
        # Sums of the weights that lie inside of the image, at the first row and column of each place.
        sums = weighed.sums(np.ones((1, *weighed.input_shape), np.int32))[0]
        rows, columns = (np.unique(numbers, return_index=True)[1] for numbers in weighed.places)
        inside = sums[np.ix_(rows, columns)].astype(np.float64)
        self.shift = inputs.offset * inside + pad_value * (total - inside)
        return weighed

    def _pool(self, layer: tf.keras.layers.Layer) -> None:
        if not self.folded or self.shape != self.image:
            raise ValueError(
                f"'{layer.name}' pools no feature map: only what a QuantConv2D gives is pooled, before it is "
                "flattened or reshaped."
            )
        window = _pool_window(layer, self.shape)
        self.image = (*window.positions(*self.shape[:2]), self.shape[2])
        self.waiting.append(_Pooling(window, layer.name))
        if self.folded[-1].sign is not None and len(self.waiting) == 1:
            self._resolve(tf.identity)

    def _point(self, name: str, pointwise: _Pointwise) -> None:
        if not self.folded:
            raise ValueError(
                f"'{name}' normalizes the input itself: put it behind the first layer with weights."
            )
        if pointwise.filters != self.folded[-1].filters:
            raise ValueError(f"'{name}' normalizes what was flattened: put it before the Flatten.")
        self.waiting.append(pointwise)

    def _activate(self, function: Function, name: str) -> None:
        if function is tf.keras.activations.linear:
            return
        if function is tf.keras.activations.softmax:
            self._end(name)
            return
        if not self.folded:
            raise ValueError(f"'{name}' comes before the first layer with weights.")
        _check_sign(function, name)
        self._resolve(function)

    def _end(self, name: str) -> None:
        warnings.warn(
            f"The softmax '{name}' is left off: the exported network gives what goes into it.", stacklevel=5
        )
        self.is_over = True

    def _resolve(self, sign: Function) -> None:
        """A sign: what waits becomes thresholds, and the direction of each pool."""
        layer = self.folded[-1]
        points = [waiting for waiting in self.waiting if isinstance(waiting, _Pointwise)]

        def through(values: tf.Tensor) -> tf.Tensor:
            for point in points:
                values = point.call(values)
            return values

        falling = np.zeros(layer.filters, bool)
        pools = []
        for waiting in reversed(self.waiting):
            if isinstance(waiting, _Pooling):
                pools.append(Pool(waiting.window, ~falling))
            elif waiting.falling is not None:
                falling ^= waiting.falling
        highest = HIGHEST_CODE if len(self.folded) == 1 and not self.is_binary else 1
        reach = layer.reach(highest)
        if layer.sign is None or self.waiting:
            self._check_given()
        if layer.sign is None:
            layer = self._compared(layer, _answer(through, sign), reach)
        elif points:
            layer = _turned(layer, layer.sign, _answer(through, sign), reach)
        self.folded[-1] = replace(layer, pools=(*layer.pools, *pools[::-1]))
        self.waiting = []

    def _compared(self, layer: IntegerLayer, answer: _Answer, reach: int) -> IntegerLayer:
        """A layer with the thresholds at which the answer to its sums turns."""
        if self.shift is None or len(self.folded) > 1:
            return replace(layer, sign=Sign(*_search(answer, (layer.filters,), reach)))
        scale, shift = self.inputs.scale, self.shift

        def scaled(sums: NDArray[Any]) -> NDArray[np.bool_]:
            values = scale * sums + shift
            bits = [answer(row) for row in values.reshape(-1, layer.filters)]
            return np.stack(bits).reshape(values.shape)

        thresholds, rising = _search(scaled, shift.shape, reach)
        # A place where a filter never turns counts as rising: it takes the direction of the others.
        directions = rising.all(axis=(0, 1))
        thresholds = np.where(rising & ~directions, -thresholds, thresholds)
        middle = thresholds[len(thresholds) // 2, thresholds.shape[1] // 2]
        border = middle - thresholds
        return replace(layer, border=border if border.any() else None, sign=Sign(middle, directions))

    def _check_given(self, name: str = "") -> None:
        """That no output was taken of the last layer, which now becomes something else."""
        for other, output in self.outputs.items():
            if output.layer == len(self.folded) - 1:
                also = f" and '{name}'" if name else ""
                raise ValueError(
                    f"The output '{other}'{also}: of a layer with weights, and the batch norm, sign and pool "
                    "behind it, only the last can be an output, once."
                )

    def _give(self, name: str) -> None:
        """What the chain holds now is an output."""
        if not self.folded:
            raise ValueError(f"The output '{name}' is the input itself.")
        self._check_given(name)
        layer = self.folded[-1]
        if self.waiting or layer.sign is None:
            pooling = next((waiting for waiting in self.waiting if isinstance(waiting, _Pooling)), None)
            if pooling is not None or layer.sign is not None:
                last = pooling.name if pooling is not None else self.waiting[-1].name
                raise ValueError(
                    f"The output '{name}' is numbers behind '{last}': only bits are pooled, and numbers come "
                    "straight from a QuantConv2D or QuantDense and its batch norm. Put a sign behind it."
                )
            steps = [waiting.step for waiting in self.waiting if isinstance(waiting, _Pointwise)]
            if self.shift is not None and len(self.folded) == 1:
                steps = [self._scaling(layer), *steps]
            self.folded[-1] = replace(layer, steps=tuple(step for step in steps if step is not None))
        self.outputs[name] = Output(len(self.folded) - 1, self.shape)

    def _scaling(self, layer: IntegerLayer) -> Step:
        """What makes sums of scaled codes of sums of codes, for a first layer that gives numbers."""
        shift = np.asarray(self.shift)
        if shift.shape[:2] != (1, 1):
            raise ValueError(
                f"'{self.model.name}' gives numbers straight from a first layer whose padding no whole code "
                f"stands for: set its pad_values to {self.inputs.offset:g}, which code 0 stands for, or its "
                "padding to 'valid'."
            )
        scales = np.full(layer.filters, self.inputs.scale, np.float32)
        return scales, shift[0, 0].astype(np.float32)


def _chain(model: tf.keras.Model) -> list[tuple[tf.keras.layers.Layer, tf.Tensor]]:
    """The layers from the input on, each taking what the one before gives, and what each gives."""
    if not getattr(model, "_is_graph_network", False):
        raise ValueError(
            f"'{model.name}' is no graph of layers yet: begin it with an Input, as in "
            "tf.keras.Sequential([tf.keras.Input(shape), ...])."
        )
    inputs = tf.nest.flatten(model.inputs)
    if len(inputs) != 1:
        raise ValueError(f"Expected a model with one input, but '{model.name}' has {len(inputs)}.")
    paths = sorted((_path(tensor) for tensor in _outputs(model).values()), key=len)
    for path in paths:
        for (mine, _), (longest, _) in zip(path, paths[-1], strict=False):
            if mine is not longest:
                raise ValueError(
                    f"'{model.name}' branches to '{mine.name}' and '{longest.name}': only a chain of layers "
                    "folds to integers."
                )
    return paths[-1]


def _path(tensor: tf.Tensor) -> list[tuple[tf.keras.layers.Layer, tf.Tensor]]:
    """The layers from the input to a tensor."""
    found: list[tuple[tf.keras.layers.Layer, tf.Tensor]] = []
    while True:
        # A layer may have been called elsewhere too: Keras notes with each tensor which call gave it.
        layer, call, _ = tensor._keras_history
        found.append((layer, tensor))
        given = tf.nest.flatten(layer.inbound_nodes[call].input_tensors)
        if isinstance(layer, tf.keras.layers.InputLayer):
            return found[::-1]
        if len(given) != 1:
            raise ValueError(
                f"'{layer.name}' is a {type(layer).__name__} of {len(given)} inputs: only a chain of layers "
                "folds to integers."
            )
        tensor = given[0]


def _outputs(model: tf.keras.Model) -> dict[str, tf.Tensor]:
    output = model.output
    if isinstance(output, dict):
        return output
    if isinstance(output, (list, tuple)):
        return dict(zip(model.output_names, output, strict=True))
    return {"output": output}


def _is_exactly(layer: tf.keras.layers.Layer, *kinds: type) -> bool:
    """Not a subclass: that may compute anything (a depthwise convolution is a Conv2D too)."""
    return type(layer) in kinds


def _convolution(layer: tf.keras.layers.Layer, shape: Shape) -> IntegerLayer:
    if layer.data_format != "channels_last" or layer.dilation_rate != (1, 1) or layer.groups != 1:
        raise ValueError(
            f"'{layer.name}' has dilation_rate {layer.dilation_rate}, groups {layer.groups} and data_format "
            f"'{layer.data_format}': only (1, 1), 1 and 'channels_last' fold."
        )
    weights = signs(layer)
    height, width, channels = shape
    window = _window(layer, layer.kernel_size, shape)
    return IntegerLayer(weights, (height, width, channels), window)


def _dense(layer: tf.keras.layers.Layer, shape: Shape) -> IntegerLayer:
    if math.prod(shape) != shape[-1]:
        raise ValueError(f"'{layer.name}' is dense on an input of {shape}: put a Flatten before it.")
    return IntegerLayer(signs(layer)[None, None], (1, 1, shape[-1]))


def _lengthwise(layer: IntegerLayer) -> IntegerLayer:
    """A layer on a column of pixels as one on a row, which has the same order and runs along the lanes."""
    windows = [layer.window, *(pool.window for pool in layer.pools)]
    if layer.input_shape[1] != 1 or any(window.size[1] != 1 for window in windows):
        return layer
    height, width, channels = layer.input_shape
    return replace(
        layer,
        weights=layer.weights.transpose(1, 0, 2, 3),
        input_shape=(width, height, channels),
        window=_transposed(layer.window),
        border=None if layer.border is None else layer.border.transpose(1, 0, 2),
        pools=tuple(Pool(_transposed(pool.window), pool.is_or) for pool in layer.pools),
    )


def _transposed(window: SlidingWindow) -> SlidingWindow:
    return SlidingWindow(window.size[::-1], window.stride[::-1], window.margins[::-1])


def _window(layer: tf.keras.layers.Layer, size: Sequence[int], shape: Shape) -> SlidingWindow:
    strides = (layer.strides[0], layer.strides[1])
    margins = []
    for extent, length, step in zip(shape[:2], size, strides, strict=True):
        if layer.padding == "valid":
            if extent < length:
                raise ValueError(f"'{layer.name}' is larger than what it moves over ({length} > {extent}).")
            margins.append((0, 0))
        else:
            missing = max((-(-extent // step) - 1) * step + length - extent, 0)
            margins.append((missing // 2, missing - missing // 2))
    return SlidingWindow((size[0], size[1]), strides, (margins[0], margins[1]))


def _pool_window(layer: tf.keras.layers.Layer, shape: Shape) -> SlidingWindow:
    if isinstance(layer, PaddedMaxPool2D):
        down, across = layer.margin
        return SlidingWindow(layer.window, layer.strides, ((down, down), (across, across)))
    if layer.data_format != "channels_last":
        raise ValueError(f"'{layer.name}' has data_format '{layer.data_format}': only 'channels_last' folds.")
    return _window(layer, layer.pool_size, shape)


def _norm(layer: tf.keras.layers.Layer) -> _Pointwise:
    if tuple(layer.axis) not in ((-1,), (layer.input_spec.ndim - 1,)):
        raise ValueError(f"'{layer.name}' normalizes axis {list(layer.axis)}: only the last one folds.")
    gamma = None if layer.gamma is None else layer.gamma.numpy()
    filters = layer.moving_mean.shape[0]
    falling = np.zeros(filters, bool) if gamma is None else gamma < 0
    step = affine(layer)
    _check_finite(layer.name, step)
    return _Pointwise(_norm_function(layer), filters, layer.name, step, falling)


def _norm_function(layer: tf.keras.layers.Layer) -> Function:
    _check_finite(layer.name, layer.get_weights())
    shape = (*[1] * (layer.input_spec.ndim - 1), -1)
    return lambda values: layer(tf.reshape(values, shape), training=False)


def _check_finite(name: str, weights: Sequence[NDArray[Any]]) -> None:
    if not all(np.isfinite(weight).all() for weight in weights):
        raise ValueError(f"'{name}' has weights that are not finite: the training went wrong.")


def _check_sign(function: Function, name: str) -> None:
    """That it is a sign: -1 below zero, +1 above."""
    found = np.asarray(function(tf.constant(_PROBES)))
    if not np.array_equal(np.delete(found, 3), np.sign(np.delete(_PROBES, 3))) or abs(found[3]) != 1:
        called = getattr(function, "name", None) or getattr(function, "__name__", type(function).__name__)
        raise ValueError(f"'{name}' ({called}) is no sign: only signs fold to bits ('ste_sign').")


_Answer = Callable[[NDArray[Any]], NDArray[np.bool_]]


def _answer(call: Function, sign: Function) -> _Answer:
    """The bits that layers make of one sum per filter."""

    def at(sums: NDArray[Any]) -> NDArray[np.bool_]:
        return np.asarray(sign(call(tf.constant(sums.astype(np.float32))))).reshape(-1) > 0

    return at


def _search(at: _Answer, shape: tuple[int, ...], reach: int) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Where the answer of monotone layers turns, by bisection for all filters at once; True: upwards."""
    low = np.full(shape, -reach, np.int64)
    high = np.full(shape, reach, np.int64)
    at_low, at_high = at(low), at(high)
    rising = at_high >= at_low
    is_constant = at_high == at_low
    # Between low, answered as at the left end, and high, answered as at the right end.
    while (high - low > 1).any():
        middle = (low + high) // 2
        is_right = at(middle) == at_high
        high, low = np.where(is_right, middle, high), np.where(is_right, low, middle)
    thresholds = np.where(rising, high, low)
    thresholds = np.where(is_constant, np.where(at_high, -reach, reach + 1), thresholds)
    return thresholds.astype(np.int32), rising


def _turned(layer: IntegerLayer, sign: Sign, at: _Answer, reach: int) -> IntegerLayer:
    """A layer whose bits go through a function: kept, turned round, or made constant."""
    ones = np.ones(layer.filters, np.int64)
    unset, is_set = at(-ones), at(ones)
    is_constant, is_turned = unset == is_set, unset & ~is_set
    thresholds, rising = sign.thresholds, sign.rising
    # not (sum >= t) is sum <= t - 1
    thresholds = np.where(is_turned, thresholds + np.where(rising, -1, 1), thresholds)
    rising = rising ^ is_turned
    thresholds = np.where(is_constant, np.where(is_set, -reach, reach + 1), thresholds)
    pools = tuple(replace(pool, is_or=pool.is_or ^ is_turned) for pool in layer.pools)
    return replace(layer, sign=Sign(thresholds.astype(np.int32), rising | is_constant), pools=pools)
