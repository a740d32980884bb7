"""TFLite artefacts, run on the LiteRT interpreter: float32, and full-integer int8.

Float sections are the Keras section as it is. Integer ones are made of its saturating form
(`saturating`), calibrated with training samples; inputs and outputs of the file are integers too, and
the runner scales them, so that it takes and gives the same numbers as every other engine.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ddnn_tf.export.artefact import Artefact

if TYPE_CHECKING:
    from ddnn_tf.sections import Arrays, Runner, Section

__all__ = ["Tflite", "convert", "interpreter", "operators", "quiet", "saved"]

_CALIBRATION_SAMPLES = 200
_HIGHEST_PIXEL = 255


class Tflite:
    """TFLite for any section.

    Args:
        precision: `float32` or `int8`.
    """

    extra = "tflite"
    sections = "any section"

    def __init__(self, precision: str = "float32") -> None:
        self.precision = precision
        self.name = "tflite" if precision == "float32" else f"tflite-{precision}"

    def takes(self, section: Section) -> bool:
        """Every section."""
        return True

    def convert(self, section: Section, samples: Arrays) -> Artefact:
        """As `Target.convert`."""
        content = convert(section, self.precision, samples)
        details = {"operators": operators(content), "has_bits": section.has_bits}
        return Artefact(section.name, self.name, {f"{self.name}.tflite": content}, details)

    def runner(self, artefact: Artefact) -> Runner:
        """As `Target.runner`; one thread, one sample at a time."""
        signature = interpreter(artefact.content).get_signature_runner()
        into, out = signature.get_input_details(), signature.get_output_details()

        def run(inputs: Arrays) -> Arrays:
            given = {name: quantized(np.asarray(inputs[name]), detail) for name, detail in into.items()}
            count = len(next(iter(given.values())))
            found: dict[str, list[NDArray[Any]]] = {name: [] for name in out}
            for at in range(count):
                for name, value in signature(
                    **{key: array[at : at + 1] for key, array in given.items()}
                ).items():
                    found[name].append(value)
            return {
                name: real(np.concatenate(values), out[name], name, artefact)
                for name, values in found.items()
            }

        return run


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
        made = Interpreter(model_content=content, num_threads=threads)
        made.allocate_tensors()
    return made


def convert(section: Section, precision: str, samples: Arrays) -> bytes:
    """A section as a TFLite file with a named signature, for a batch of one.

    Args:
        section: The section.
        precision: `float32`, `int8`, `int16` (16-bit activations, 8-bit weights), or `saturating`: float32
            without sign operators.
        samples: Training inputs by sender, for the integers.

    Raises:
        ValueError: No samples to calibrate with, or the converter refuses the section.
    """
    import tensorflow as tf

    from ddnn_tf.export.saturating import saturating

    is_integer = precision.startswith("int")
    if is_integer and (not samples or any(len(array) == 0 for array in samples.values())):
        raise ValueError(
            f"Expected `samples` of training inputs to calibrate {precision} with, but got none for "
            f"'{section.name}'."
        )
    as_trained = precision == "float32"
    function = (lambda inputs: section.model(inputs, training=False)) if as_trained else saturating(section)
    with tempfile.TemporaryDirectory() as directory, quiet():
        saved(section, function, directory)
        converter = tf.lite.TFLiteConverter.from_saved_model(directory)
        if is_integer:
            kind = getattr(tf, precision)
            sets = tf.lite.OpsSet
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: _calibration(section, samples)
            converter.target_spec.supported_ops = [
                sets.TFLITE_BUILTINS_INT8
                if precision == "int8"
                else sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
            ]
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

    module = tf.Module()
    module.model, module.serve = variables or section.model, serve
    tf.saved_model.save(module, directory, signatures=serve.get_concrete_function())


def operators(content: bytes) -> list[str]:
    """The operators of a TFLite file, in order; custom ones by their own name."""
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}

    def name_of(code: Any) -> str:
        return (
            code.customCode.decode()
            if code.customCode
            else names[max(code.builtinCode, code.deprecatedBuiltinCode)]
        )

    codes = [name_of(code) for code in model.operatorCodes]
    return [codes[operator.opcodeIndex] for operator in model.subgraphs[0].operators]


def quantized(values: NDArray[Any], detail: Mapping[str, Any]) -> NDArray[Any]:
    """Numbers as the file takes them."""
    kind = np.dtype(detail["dtype"])
    if kind.kind == "f":
        return values.astype(np.float32)
    scale, zero = detail["quantization"]
    limits = np.iinfo(kind)
    return np.clip(np.rint(values / scale) + zero, limits.min, limits.max).astype(kind)


def real(values: NDArray[Any], detail: Mapping[str, Any], name: str, artefact: Artefact) -> NDArray[Any]:
    """Numbers of a file's output as the section gives them; bits as -1 and +1."""
    if np.dtype(detail["dtype"]).kind != "f":
        scale, zero = detail["quantization"]
        values = ((values.astype(np.float32) - zero) * scale).astype(np.float32)
    if name == "features" and artefact.details["has_bits"]:
        return np.where(values > 0, 1, -1).astype(np.float32)
    return values


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps native chatter of converters and interpreters off stderr."""
    stderr = os.dup(2)
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(sink)


def _calibration(section: Section, samples: Arrays) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Training samples one by one; for a device also black and white, so that a pixel is one step."""
    count = min(_CALIBRATION_SAMPLES, *(len(array) for array in samples.values()))
    for at in range(count):
        yield {name: np.asarray(samples[name][at : at + 1], np.float32) for name in section.inputs}
    if section.tier == "device":
        for pixel in (0, _HIGHEST_PIXEL):
            yield {name: np.full_like(samples[name][:1], pixel, np.float32) for name in section.inputs}
