"""Larq Compute Engine artefacts: binary convolutions as bit operations.

LCE has no binary dense layer, so a binary FC block is converted as the equal 1x1 convolution. Every
binary layer that takes bits must come out as `LceBconv2d`; `details` names those that did, and those
that stay float and why: the first block of a device takes pixels, and the first block after an
average or a linear layer takes real numbers.

Beside that file stands, for sections that send bits, `lce-packed.tflite`: it gives the features alone,
as LCE's own int32 words, `(1, height, width, ceil(filters / 32))`, bit f of a pixel set where filter f is -1.

The interpreter of the Python wheel is LCE's reference for x86-64; LCE's fast kernels are for ARM. Time
them there with LCE's own `lce_benchmark_model --graph=FILE`.
"""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np

from ddnn_tf.bundle import Artefact
from ddnn_tf.export.litert import operators, quiet, real, saved
from ddnn_tf.export.targets import EXACT, register_target

if TYPE_CHECKING:
    from ddnn_tf.sections import Arrays, Runner, Section

__all__ = ["Lce"]

_BINARY = "LceBconv2d"


class Lce:
    """Larq Compute Engine for any section."""

    name = "lce"
    extra = "lce"
    sections = "any section"
    tolerance = EXACT

    def takes(self, section: Section) -> bool:
        """Every section."""
        return True

    def convert(self, section: Section, samples: Arrays) -> Artefact:
        """As `Target.convert`; `samples` are not needed.

        Raises:
            ValueError: A binary layer that takes bits has become a float operator.
        """
        compiler = _engine()
        from larq_compute_engine.mlir.python.util import strip_lcedequantize_ops

        model, binary, real_valued = _with_convolutions(section)

        def converted(outputs: tuple[str, ...]) -> bytes:
            def function(inputs: Any) -> dict[str, Any]:
                answers = model(inputs, training=False)
                return {name: answers[name] for name in outputs}

            with tempfile.TemporaryDirectory() as directory, quiet():
                saved(section, function, directory, variables=model)
                return bytes(compiler.convert_saved_model(directory))

        content = converted(section.outputs)
        found = operators(content)
        if found.count(_BINARY) != len(binary):
            raise ValueError(
                f"'{section.name}': of the binary layers {', '.join(binary)} only "
                f"{found.count(_BINARY)} became {_BINARY}; the others fell back to float."
            )
        files = {"lce.tflite": content}
        if section.has_bits:
            # Of the features alone: where another layer reads them too, stripping breaks the file.
            files["lce-packed.tflite"] = bytes(strip_lcedequantize_ops(converted(("features",))))
        details = {
            "operators": found,
            "binary_layers": binary,
            "real_valued_layers": real_valued,
            "has_bits": section.has_bits,
        }
        return Artefact(section.name, self.name, files, details)

    def runner(self, artefact: Artefact) -> Runner:
        """As `Target.runner`; one thread."""
        _engine()
        from larq_compute_engine.tflite.python.interpreter import Interpreter

        senders, outputs = _order(artefact.content)
        with quiet():
            engine = Interpreter(artefact.content, num_threads=1)

        def run(inputs: Arrays) -> Arrays:
            given = [np.asarray(inputs[name], np.float32) for name in senders]
            answers = engine.predict(given if len(given) > 1 else given[0])
            answers = answers if isinstance(answers, list | tuple) else [answers]
            float_ = {"dtype": np.float32}
            return {
                name: real(np.asarray(values), float_, name, artefact.details["has_bits"])
                for name, values in zip(outputs, answers, strict=True)
            }

        return run


def _engine() -> Any:
    try:
        import larq_compute_engine
    except ImportError:
        raise ImportError("larq-compute-engine is not installed: pip install 'ddnn_tf[lce]'.") from None
    return larq_compute_engine


def _order(content: bytes) -> tuple[list[str], list[str]]:
    """Names of inputs and outputs in the order of the file's tensors, out of its signature."""
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    graph, signature = model.subgraphs[0], model.signatureDefs[0]
    senders = {entry.tensorIndex: entry.name.decode() for entry in signature.inputs}
    outputs = {entry.tensorIndex: entry.name.decode() for entry in signature.outputs}
    return [senders[at] for at in graph.inputs], [outputs[at] for at in graph.outputs]


def _with_convolutions(section: Section) -> tuple[Any, list[str], dict[str, str]]:
    """The section with binary dense layers as 1x1 convolutions, and its binary layers by name."""
    import larq as lq
    import tensorflow as tf

    tensors: dict[int, Any] = {}
    binary: list[str] = []
    real_valued: dict[str, str] = {}
    for layer in section.model.layers:
        if isinstance(layer, tf.keras.layers.InputLayer):
            tensors[id(layer.output)] = layer.output
            continue
        found = [tensors[id(tensor)] for tensor in tf.nest.flatten(layer.input)]
        given: Any = found if len(found) > 1 else found[0]
        is_binary = isinstance(layer, lq.layers.QuantConv2D | lq.layers.QuantDense)
        if is_binary and layer.input_quantizer is None:
            takes_pixels = section.tier == "device"
            real_valued[layer.name] = "takes pixels" if takes_pixels else "takes real numbers"
        elif is_binary:
            binary.append(layer.name)
        if isinstance(layer, lq.layers.QuantDense) and layer.input_quantizer is not None:
            twin = lq.layers.QuantConv2D(
                layer.units, 1, input_quantizer="ste_sign", kernel_quantizer="ste_sign", use_bias=False,
                kernel_constraint="weight_clip",
                name=f"{layer.name}_as_conv",
            )  # fmt: skip
            size = int(given.shape[-1])
            answer = twin(tf.keras.layers.Reshape((1, 1, size))(given))
            twin.set_weights([layer.kernel.numpy()[None, None]])
            tensors[id(layer.output)] = tf.keras.layers.Flatten()(answer)
        else:
            tensors[id(layer.output)] = layer(given)
    outputs = {name: tensors[id(tensor)] for name, tensor in section.model.output.items()}
    return tf.keras.Model(section.model.inputs, outputs), binary, real_valued


register_target(Lce())
