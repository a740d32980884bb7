"""Larq Compute Engine artefacts: binary convolutions as bit operations.

LCE has no binary dense layer, so a binary FC block is converted as the equal 1x1 convolution. Every
binary layer that takes bits must come out as `LceBconv2d`; `details` names those that did, and those
that stay float and why: the first block of a device takes 8-bit codes, and the first block after an
average or a linear layer takes real numbers.

Beside that file stands, for sections that send bits, `lce-packed.tflite`: it gives the features alone,
as LCE's own int32 words, `(1, height, width, ceil(filters / 32))`, bit f of a pixel set where filter f is -1;
of a series `(1, steps, 1, ceil(filters / 32))`, of what an FC block gives `(1, ceil(units / 32))`.

The interpreter of the Python wheel is LCE's reference for x86-64; LCE's fast kernels are for ARM. Time
them there with LCE's own `lce_benchmark_model --graph=FILE`.
"""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np

from ddnn_tf.bundle import Artefact
from ddnn_tf.export.litert import operators, quiet, real, saved, tensor_order
from ddnn_tf.export.targets import EXACT, register_target

if TYPE_CHECKING:
    from ddnn_tf.sections import Arrays, Runner, Section

__all__ = ["Lce"]

_BINARY = "LceBconv2d"
_UNSHAPED = "unshaped"


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
            files["lce-packed.tflite"] = bytes(strip_lcedequantize_ops(converted((_UNSHAPED,))))
        details = {
            "operators": found,
            "binary_layers": binary,
            "real_valued_layers": real_valued,
            "has_bits": section.has_bits,
            **tensor_order(content),
        }
        return Artefact(section.name, self.name, files, details)

    def runner(self, artefact: Artefact) -> Runner:
        """As `Target.runner`; one thread."""
        _engine()
        from larq_compute_engine.tflite.python.interpreter import Interpreter

        details = artefact.details
        with quiet():
            engine = Interpreter(artefact.content, num_threads=1)

        def run(inputs: Arrays) -> Arrays:
            given = [np.asarray(inputs[sender], np.float32) for sender in details["inputs"]]
            answers = engine.predict(given if len(given) > 1 else given[0])
            answers = answers if isinstance(answers, list | tuple) else [answers]
            return {
                name: real(np.asarray(values), {"dtype": np.float32}, name, details["has_bits"])
                for name, values in zip(details["outputs"], answers, strict=True)
            }

        return run


def _engine() -> Any:
    try:
        import larq_compute_engine
    except ImportError:
        raise ImportError("larq-compute-engine is not installed: pip install 'ddnn_tf[lce]'.") from None
    return larq_compute_engine


def _with_convolutions(section: Section) -> tuple[Any, list[str], dict[str, str]]:
    """The section with binary dense layers as 1x1 convolutions, and its binary layers by name."""
    import larq as lq
    import tensorflow as tf

    from ddnn_tf.export.replay import reads_codes, replay
    from ddnn_tf.sections import FEATURES

    binary: list[str] = []
    real_valued: dict[str, str] = {}

    def replacement(layer: Any, taken: Any) -> Any:
        if not isinstance(layer, lq.layers.QuantConv2D | lq.layers.QuantDense):
            return layer(taken)
        if layer.input_quantizer is None:
            takes_codes = reads_codes(section, layer)
            real_valued[layer.name] = "takes 8-bit codes" if takes_codes else "takes real numbers"
            return layer(taken)
        binary.append(layer.name)
        return _as_convolution(layer, taken) if isinstance(layer, lq.layers.QuantDense) else layer(taken)

    senders = dict(zip(section.model.input_names, section.model.inputs, strict=True))
    outputs = replay(section, senders, replacement)
    if section.has_bits:
        outputs[_UNSHAPED] = _unshaped(outputs[FEATURES])
    return tf.keras.Model(section.model.inputs, outputs), binary, real_valued


def _unshaped(features: Any) -> Any:
    """Feature bits as their sign gives them, before a layer that only reshapes them: words cannot be."""
    import tensorflow as tf

    layer, call, _ = features._keras_history
    while isinstance(layer, tf.keras.layers.Reshape):
        (features,) = tf.nest.flatten(layer.inbound_nodes[call].input_tensors)
        layer, call, _ = features._keras_history
    return features


def _as_convolution(dense: Any, inputs: Any) -> Any:
    """A binary dense layer `(batch, features)` to `(batch, units)` as the equal 1x1 convolution."""
    import larq as lq
    import tensorflow as tf

    convolution = lq.layers.QuantConv2D(
        dense.units, 1, input_quantizer="ste_sign", kernel_quantizer="ste_sign", use_bias=False,
        kernel_constraint="weight_clip",
        name=f"{dense.name}_as_conv",
    )  # fmt: skip
    answer = convolution(tf.keras.layers.Reshape((1, 1, int(inputs.shape[-1])))(inputs))
    convolution.set_weights([dense.kernel.numpy()[None, None]])
    return tf.keras.layers.Flatten()(answer)


register_target(Lce())
