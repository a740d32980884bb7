"""TFLite artefacts, run on the LiteRT interpreter: float32, and full-integer int8.

Float sections are the Keras section as it is. Integer ones are made of its saturating form
(`saturating`), calibrated with training samples; inputs and outputs of the file are integers too, and
the runner scales them, so that it takes and gives the same numbers as every other engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ddnn_tf.bundle import Artefact
from ddnn_tf.export.litert import Precision, convert, interpreter, operators, quantized, real
from ddnn_tf.export.targets import EXACT, Tolerance, register_target
from ddnn_tf.export.timing import Clock, part, timed

if TYPE_CHECKING:
    from ddnn_tf.sections import Arrays, Runner, Section

__all__ = ["Tflite"]


class Tflite:
    """TFLite for any section.

    Args:
        precision: `float32` or `int8`.
    """

    extra = "tflite"
    sections = "any section"

    def __init__(self, precision: Precision = "float32") -> None:
        self.precision: Precision = precision
        is_float = precision == "float32"
        self.name = "tflite" if is_float else f"tflite-{precision}"
        self.tolerance = EXACT if is_float else Tolerance(bits=0.995, decisions=None, accuracy=0.005)

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
        has_bits = artefact.details["has_bits"]

        def run(inputs: Arrays) -> Arrays:
            given = {name: quantized(np.asarray(inputs[name]), detail) for name, detail in into.items()}
            answers: dict[str, list[NDArray[Any]]] = {name: [] for name in out}
            for number in range(len(next(iter(given.values())))):
                sample = {name: array[number : number + 1] for name, array in given.items()}
                for name, value in signature(**sample).items():
                    answers[name].append(value)
            return {
                name: real(np.concatenate(values), out[name], name, has_bits)
                for name, values in answers.items()
            }

        return run

    def clock(self, artefact: Artefact) -> Clock:
        """The interpreter itself, without the runner's loop; resized to the batch where it can be."""

        def clock(inputs: Arrays, batch: int) -> list[float]:
            engine = interpreter(artefact.content)
            details = engine.get_signature_runner().get_input_details()
            try:
                for name, detail in details.items():
                    engine.resize_tensor_input(detail["index"], [batch, *inputs[name].shape[1:]])
                engine.allocate_tensors()
                size = batch
            except (RuntimeError, ValueError):
                engine = interpreter(artefact.content)
                size = 1
            given = {name: quantized(np.asarray(inputs[name]), detail) for name, detail in details.items()}

            def call(number: int) -> None:
                for start in range(0, batch, size):
                    for name, detail in details.items():
                        engine.set_tensor(detail["index"], part(given[name], number * batch + start, size))
                    engine.invoke()

            return timed(call, batch)

        return clock


register_target(Tflite())
register_target(Tflite("int8"))
