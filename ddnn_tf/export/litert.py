"""What the targets of the TFLite family share: the converter, the LiteRT interpreter, and their numbers.

TensorFlow is imported when something is converted; the interpreter and its numbers need none.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ddnn_tf.specs import HIGHEST_CODE

if TYPE_CHECKING:
    from ddnn_tf.sections import Arrays, Section

__all__ = [
    "Precision",
    "convert",
    "interpreter",
    "operators",
    "quantized",
    "quiet",
    "real",
    "saved",
    "tensor_order",
]

Precision = Literal["float32", "saturating", "int8", "int16"]
"""Floats as trained, floats without sign operators, or integers: `int16` has 16-bit activations and 8-bit
weights."""

# Enough to find the ranges of activations; each sample takes the converter time.
_CALIBRATION_SAMPLES = 200


def interpreter(content: bytes, threads: int = 1) -> Any:
    """A LiteRT interpreter.

    Raises:
        ImportError: LiteRT is not installed.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        raise ImportError("ai-edge-litert is not installed: pip install 'ddnn_tf[tflite]'.") from None
    with quiet():
        engine = Interpreter(model_content=content, num_threads=threads)
        engine.allocate_tensors()
    return engine


def convert(section: Section, precision: Precision, samples: Arrays) -> bytes:
    """A section as a TFLite file with a named signature, for a batch of one.

    Args:
        section: The section.
        precision: What the file computes in.
        samples: Training inputs by sender, for the integers.

    Raises:
        ValueError: No samples to calibrate with, or the converter refuses the section.
    """
    import tensorflow as tf

    from ddnn_tf.export.saturating import saturating

    is_integer = precision in ("int8", "int16")
    if is_integer and (not samples or any(len(array) == 0 for array in samples.values())):
        raise ValueError(
            f"Expected `samples` of training inputs to calibrate {precision} with, but got none for "
            f"'{section.name}'."
        )
    function: Callable[[Any], Any]
    if precision == "float32":
        function = functools.partial(section.model, training=False)
    else:
        function = saturating(section)
    with tempfile.TemporaryDirectory() as directory, quiet():
        saved(section, function, directory)
        converter = tf.lite.TFLiteConverter.from_saved_model(directory)
        if is_integer:
            sets = tf.lite.OpsSet
            kind, operator_set = {
                "int8": (tf.int8, sets.TFLITE_BUILTINS_INT8),
                "int16": (tf.int16, sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8),
            }[precision]
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: _calibration(section, samples)
            converter.target_spec.supported_ops = [operator_set]
            converter.inference_input_type = converter.inference_output_type = kind
        try:
            with warnings.catch_warnings():
                # The converter calibrates with TensorFlow's own interpreter, which says it is deprecated.
                warnings.simplefilter("ignore")
                return bytes(converter.convert())
        except Exception as error:  # the converter raises a class of its own for each stage
            reason = " ".join(str(error).split())[:300]
            raise ValueError(f"'{section.name}' cannot be converted to {precision}: {reason}.") from None


def saved(
    section: Section,
    function: Callable[[Any], Any],
    directory: str,
    *,
    batch: int | None = 1,
    variables: Any = None,
) -> None:
    """Writes a SavedModel with one signature, `serving_default`, named as the section's data are.

    Args:
        section: The section.
        function: Its inputs by sender to its outputs by name.
        directory: Where to.
        batch: Samples of a call; None: any number.
        variables: The Keras model whose variables the function reads; None: the section's.
    """
    import tensorflow as tf

    specs = [
        tf.TensorSpec((batch, *tensor.shape[1:]), tensor.dtype, name=name)
        for name, tensor in zip(section.model.input_names, section.model.inputs, strict=True)
    ]

    @tf.function(input_signature=specs)
    def serve(*tensors: Any) -> Any:
        return dict(function(dict(zip(section.model.input_names, tensors, strict=True))))

    # The variables alone: a Keras model would write each of its layers as functions too, and take most of
    # the time of an export.
    module = tf.Module()
    module.kept, module.serve = (variables or section.model).variables, serve
    tf.saved_model.save(module, directory, signatures=serve.get_concrete_function())


def operators(content: bytes) -> list[str]:
    """The operators of a TFLite file, in order; custom ones by their own name."""
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}

    def name_of(code: Any) -> str:
        if code.customCode:
            return str(code.customCode.decode())
        return names[max(code.builtinCode, code.deprecatedBuiltinCode)]

    codes = [name_of(code) for code in model.operatorCodes]
    return [codes[operator.opcodeIndex] for operator in model.subgraphs[0].operators]


def tensor_order(content: bytes) -> dict[str, list[str]]:
    """Names of `inputs` and `outputs` in the order of a TFLite file's tensors, out of its signature."""
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    graph, signature = model.subgraphs[0], model.signatureDefs[0]
    inputs = {entry.tensorIndex: entry.name.decode() for entry in signature.inputs}
    outputs = {entry.tensorIndex: entry.name.decode() for entry in signature.outputs}
    return {
        "inputs": [inputs[index] for index in graph.inputs],
        "outputs": [outputs[index] for index in graph.outputs],
    }


def quantized(values: NDArray[Any], detail: Mapping[str, Any]) -> NDArray[Any]:
    """Numbers as the file takes them."""
    kind = np.dtype(detail["dtype"])
    if kind.kind == "f":
        return values.astype(np.float32)
    scale, zero = detail["quantization"]
    limits = np.iinfo(kind)
    return np.clip(np.rint(values / scale) + zero, limits.min, limits.max).astype(kind)


def real(values: NDArray[Any], detail: Mapping[str, Any], name: str, has_bits: bool) -> NDArray[Any]:
    """Numbers of a file's output as the section gives them; bits as -1 and +1.

    Args:
        values: `(samples, ...)` of the file's type.
        detail: The tensor's type and quantization.
        name: Name of the output.
        has_bits: Whether the section's feature map is bits.
    """
    if np.dtype(detail["dtype"]).kind != "f":
        scale, zero = detail["quantization"]
        values = ((values.astype(np.float32) - zero) * scale).astype(np.float32)
    if name == "features" and has_bits:
        return np.where(values > 0, 1, -1).astype(np.float32)
    return values


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps the chatter of converters and interpreters off stderr, and out of notebooks."""
    loggers = [logging.getLogger(name) for name in ("absl", "tensorflow")]
    levels = [logger.level for logger in loggers]
    stderr = os.dup(2)
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 2)
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(sink)


def _calibration(section: Section, samples: Arrays) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Training samples one by one; of sensors also the extreme codes, so that a code is one step."""
    count = min(_CALIBRATION_SAMPLES, *(len(array) for array in samples.values()))
    for at in range(count):
        yield {name: np.asarray(samples[name][at : at + 1], np.float32) for name in section.inputs}
    if all(spec.kind == "bytes" for spec in section.node.inputs):
        for code in (0, HIGHEST_CODE):
            yield {name: np.full_like(samples[name][:1], code, np.float32) for name in section.inputs}
