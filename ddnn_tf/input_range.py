"""What a model was trained on: the codes 0..255 that a sensor gives, or these scaled and shifted.

A network in C, and every device of a DDNN, takes codes. A model that was trained on `scale * code + offset`
computes the same on codes once scale and offset are part of its first batch norm (`folding.fold`). To hand
codes to such a model without that is silent nonsense; so `check_input_range` compares the statistics of the
first batch norm with what codes can give:

    >>> InputRange(1 / 127.5, -1.0)
    InputRange(scale=0.00784313725490196, offset=-1.0)
    >>> InputRange(1 / 128, -1.0).rounding(27)
    0.0

Source: ours.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ddnn_tf.specs import HIGHEST_CODE

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["InputRange", "check_input_range", "keras_rounding", "warn_of_scaled_inputs"]

# Codes are small beside an offset of more of them: float32 then no longer tells them apart well.
_LARGEST_OFFSET = 1 << 16
_ROUNDING = 2.0**-24  # of a float32, relative
# Standard deviations of inputs, in codes. Sensors and images have 15 and more; x / 255, x / 127.5 - 1 and
# standardized inputs have at most 1, which smooth images let appear larger.
_LEAST_OF_CODES = 4.0
_USUAL = (20, 80)
# With a declared scale only an error by orders of magnitude is certain: 127.5 in place of 1 / 127.5, say.
_LEAST_DECLARED, _MOST = 0.05, 4000.0
# Codes have no mean below 0. The sums of this many filters show it for `code - 128` of dark images: the mean
# and 5 standard errors are -13 and less then, and 14 and more for models trained on codes.
_LEAST_FILTERS, _DARKEST = 8, -10.0


@dataclass(frozen=True)
class InputRange:
    """Inputs of `scale * code + offset`, for codes 0..255.

    Attributes:
        scale: For example 1 / 127.5.
        offset: For example -1.

    Raises:
        ValueError: A scale that is zero or not finite, or an offset beside which codes vanish in float32.
    """

    scale: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        if self.scale == 0 or not math.isfinite(self.scale):
            raise ValueError(
                f"Expected `input_scale` to be a number other than 0, such as 1/255, but got {self.scale:g}."
            )
        if not abs(self.offset) <= abs(self.scale) * _LARGEST_OFFSET:
            raise ValueError(
                f"Expected `input_offset` of at most {_LARGEST_OFFSET} times the scale {self.scale:g} in "
                f"size, but got {self.offset:g}: beside it, float32 does not tell one code from the next."
            )

    def rescaled(self, scale: float, offset: float) -> InputRange:
        """What a `Rescaling` layer makes of these inputs."""
        return InputRange(self.scale * scale, self.offset * scale + offset)

    def in_codes(self, value: float) -> float:
        """The code that stands for a value; whole where it is whole but for the rounding of the scale."""
        code = (value - self.offset) / self.scale
        nearest = round(code)
        return float(nearest) if abs(code - nearest) <= 1e-9 * max(1.0, abs(code)) else code

    @property
    def is_exact(self) -> bool:
        """Whether float32 holds each input and each sum of them exactly: Keras then rounds nothing."""
        is_power = abs(math.frexp(self.scale)[0]) == 0.5
        return is_power and (self.offset / self.scale).is_integer()

    def rounding(self, taps: int) -> float:
        """How far Keras's float32 sum of inputs under weights of -1 and +1 can be off the exact sum.

        Keras rounds scale, offset, each product and difference, and each partial sum, in an order of its own.

        Args:
            taps: Inputs of a sum.

        Returns:
            At most so much, in the unit of the scaled inputs; 0 if `is_exact`.
        """
        largest = HIGHEST_CODE * abs(self.scale) + abs(self.offset)
        # 3 roundings for each input, `taps` - 1 for the additions, and one of the exact sum itself.
        return 0.0 if self.is_exact else _ROUNDING * taps * (taps + 3) * largest


def check_input_range(
    model: tf.keras.Model,
    declared: InputRange | None = None,
    *,
    codes: Mapping[str, Any] | None = None,
    remedy: str | None = None,
) -> None:
    """Compares the first batch norm's statistics with what codes 0..255 give.

    The variance of a sum does not depend on an offset, and grows with the square of the scale. Its mean over
    the filters, over that of the squared weights, is about the variance of the inputs. The means of the sums
    follow the sums of the weights, with the mean of the inputs as their slope: if that is far below 0, an
    offset was added. An offset with which the inputs' mean is about 0 or more does not show. A model whose
    batch norm was never trained, which binarizes its input, or without a batch norm behind its first layer
    with weights passes: there is nothing to compare.

    Args:
        model: The model.
        declared: What it was trained on; None: not said, so codes as they are.
        codes: `(samples, ...)` by input, some codes that the model is for: what they give is then measured.
            None: what sensors usually give.
        remedy: What to do about scaled inputs; None: to declare them.

    Raises:
        ValueError: It was trained on something else, with layer, statistics and remedy.
    """
    first = _first_layer(model, declared or InputRange())
    norm = None if first is None else _norm_of(model, first[0])
    if first is None or norm is None:
        return
    layer, inputs = first
    variance = norm.moving_variance.numpy().astype(np.float64)
    mean = norm.moving_mean.numpy().astype(np.float64)
    is_untrained = np.array_equal(variance, np.ones_like(variance)) and not mean.any()
    if is_untrained or not (np.isfinite(mean).all() and np.isfinite(variance).all() and variance.min() >= 0):
        return
    quantizer = getattr(layer, "kernel_quantizer", None)
    kernel = layer.kernel.numpy()
    if quantizer is not None:
        kernel = np.asarray(quantizer(kernel))
    weights = kernel.reshape(-1, kernel.shape[-1]).astype(np.float64)
    gain = math.sqrt((weights**2).sum(axis=0).mean())
    found = math.sqrt(variance.mean())
    in_codes = found / gain / abs(inputs.scale) if gain else math.nan
    if codes is not None:
        expected = _measured(model, norm, codes)
        # Batch norm remembers weights that have changed since; a scale of 1 / 127.5 is far beyond that.
        is_low, is_high = found < expected / 10, found > expected * 10
        usual = f"{expected:.3g}"
    else:
        least = _LEAST_OF_CODES if declared is None else _LEAST_DECLARED
        # No distribution of codes has a larger standard deviation than one of 0 and 255 alone.
        most = min(_MOST * gain, 1.1 * HIGHEST_CODE / 2 * np.abs(weights).sum(axis=0).mean())
        is_low = in_codes < least
        is_high = declared is not None and in_codes * gain > most
        usual = " to ".join(f"{abs(inputs.scale) * gain * code:.3g}" for code in _USUAL)
    if not is_low and not is_high:
        slope, error = _mean_of_inputs(weights, mean)
        highest = (slope - inputs.offset) / inputs.scale + 5 * error / abs(inputs.scale)
        if declared is None and codes is None and len(mean) >= _LEAST_FILTERS and highest < _DARKEST:
            raise ValueError(
                f"Expected a model trained on codes 0..255, but by the statistics of '{norm.name}' the "
                f"inputs of '{layer.name}' had a mean of about {slope:.2g} in training: "
                + (
                    remedy
                    or "declare what it was trained on, --input-scale 1 --input-offset -128 for inputs of "
                    "code - 128 (in Python `input_scale`, `input_offset`), or --input-scale 1 for codes"
                )
                + "."
            )
        return
    trained_on = "codes 0..255" if declared is None else f"{declared.scale:.6g} * code + {declared.offset:g}"
    if remedy is None:
        remedy = _remedy(weights, mean, is_high=is_high, is_declared=declared is not None)
    raise ValueError(
        f"Expected a model trained on {trained_on}, but by the statistics of '{norm.name}' the sums of "
        f"'{layer.name}' had a standard deviation of {found:.3g} in training, and such inputs give {usual}: "
        f"{remedy}."
    )


def warn_of_scaled_inputs(inputs: Mapping[str, Any]) -> None:
    """Warns of training inputs that are no codes 0..255.

    Args:
        inputs: `(samples, ...)` by name.
    """
    for name, values in inputs.items():
        array = np.asarray(values)
        if array.dtype == np.bool_ or not array.size:
            continue
        if array.min() < 0 or array.max() > HIGHEST_CODE or (array != np.round(array)).any():
            warnings.warn(
                f"'{name}' is trained on {array.min():.3g}..{array.max():.3g}, not on whole codes 0..255, "
                "which the devices of a DDNN take: leave a scaling such as `/ 255` out (batch normalization "
                "absorbs it). `export_c` takes other models with their `input_scale` and `input_offset`.",
                stacklevel=3,
            )
            return


def keras_rounding(model: tf.keras.Model, declared: InputRange | None = None) -> float:
    """How far Keras's sums in the first layer can be off those of `folding.fold`, which are exact.

    Args:
        model: The model.
        declared: What it was trained on; None: codes as they are.

    Returns:
        `InputRange.rounding`, with what Rescaling layers in the model do; 0 for bits.
    """
    first = _first_layer(model, declared or InputRange())
    if first is None:
        return 0.0
    layer, inputs = first
    return inputs.rounding(math.prod(layer.kernel.shape[:-1]))


def _first_layer(
    model: tf.keras.Model, inputs: InputRange
) -> tuple[tf.keras.layers.Layer, InputRange] | None:
    """The first layer with a kernel, and what it takes for codes; None: it takes bits."""
    import tensorflow as tf

    for layer in model.layers:
        if isinstance(layer, tf.keras.layers.Rescaling):
            if np.size(layer.scale) != 1 or np.size(layer.offset) != 1:
                return None
            inputs = inputs.rescaled(float(np.squeeze(layer.scale)), float(np.squeeze(layer.offset)))
        elif getattr(layer, "kernel", None) is not None:
            return None if getattr(layer, "input_quantizer", None) is not None else (layer, inputs)
    return None


def _norm_of(model: tf.keras.Model, first: tf.keras.layers.Layer) -> tf.keras.layers.Layer | None:
    """The batch norm of a layer's sums; None if something else than a pool stands between the two."""
    import tensorflow as tf

    from ddnn_tf.blocks import PaddedMaxPool2D

    layers = tf.keras.layers
    if getattr(first, "activation", None) not in (None, tf.keras.activations.linear):
        return None
    for layer in model.layers[model.layers.index(first) + 1 :]:
        if isinstance(layer, layers.BatchNormalization):
            return layer if layer.moving_mean.shape == first.kernel.shape[-1:] else None
        if not isinstance(layer, (layers.MaxPooling2D, PaddedMaxPool2D, layers.Reshape, layers.Dropout)):
            return None
    return None


def _measured(model: tf.keras.Model, norm: tf.keras.layers.Layer, codes: Mapping[str, Any]) -> float:
    import tensorflow as tf

    until = tf.keras.Model(model.inputs, norm.input)
    sums = until.predict([np.asarray(codes[name], np.float32) for name in model.input_names], verbose=0)
    return math.sqrt(sums.reshape(-1, sums.shape[-1]).var(axis=0).mean())


def _mean_of_inputs(weights: Any, mean: Any) -> tuple[float, float]:
    """The slope of the sums' means over the sums of the weights, and its standard error; NaN: unknown."""
    totals = weights.sum(axis=0) - weights.sum(axis=0).mean()
    if not totals.any() or len(totals) < 3:
        return math.nan, math.nan
    slope = float(totals @ mean / (totals @ totals))
    residuals = mean - mean.mean() - slope * totals
    return slope, math.sqrt(residuals @ residuals / (len(totals) - 2) / (totals @ totals))


def _remedy(weights: Any, mean: Any, *, is_high: bool, is_declared: bool) -> str:
    """What to declare."""
    if is_declared:
        return (
            "leave `input_scale` (--input-scale) out if it was trained on codes, or if a Rescaling layer in "
            "the model scales them"
            if is_high
            else "`input_scale` (--input-scale) is what a code is multiplied by, such as 1/255"
        )
    slope, _ = _mean_of_inputs(weights, mean)
    ranges = [
        "--input-scale 1/255 for inputs of code / 255",
        "--input-scale 1/127.5 --input-offset -1 for inputs of code / 127.5 - 1",
    ]
    if slope < 0:
        ranges.reverse()
    likely = "" if math.isnan(slope) else f" (its means fit inputs of mean {slope:.2g})"
    return (
        f"declare what it was trained on, {ranges[0]}{likely}, {ranges[1]} (in Python `input_scale`, "
        "`input_offset`), or --input-scale 1 if its codes do vary so little"
    )
