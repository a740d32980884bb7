"""Runs a file in TFLite Micro, as a process that may crash: model.tflite in.npz out.npz arena output..."""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray


def main(model: str, given: str, answers: str, arena: str, *outputs: str) -> None:
    """Feeds the one input sample by sample, and times it; `outputs` are the names of the file's, in order."""
    from tflite_micro.python.tflite_micro import runtime

    interpreter = runtime.Interpreter.from_file(model, arena_size=int(arena))
    with np.load(given, allow_pickle=False) as archive:
        (samples,) = (archive[name] for name in archive.files)
    detail = interpreter.get_input_details(0)
    scale, zero = _scale(detail)
    found: dict[str, list[NDArray[Any]]] = {name: [] for name in outputs}
    seconds = []
    for sample in samples:
        value = sample[None]
        if scale:
            limits = np.iinfo(detail["dtype"])
            value = np.clip(np.rint(value / scale) + zero, limits.min, limits.max)
        start = time.perf_counter()
        interpreter.set_input(value.astype(detail["dtype"]), 0)
        interpreter.invoke()
        seconds.append(time.perf_counter() - start)
        for number, name in enumerate(outputs):
            output = interpreter.get_output(number)
            step, middle = _scale(interpreter.get_output_details(number))
            values = (output.astype(np.float32) - middle) * step if step else output
            found[name].append(values.astype(np.float32))
    interpreter.print_allocations()
    np.savez(answers, seconds=seconds, **{name: np.concatenate(values) for name, values in found.items()})


def _scale(detail: dict[str, Any]) -> tuple[float, int]:
    """Scale and zero point; scale 0 for floats."""
    parameters = detail["quantization_parameters"]
    if np.dtype(detail["dtype"]).kind == "f" or len(parameters["scales"]) == 0:
        return 0.0, 0
    return float(parameters["scales"][0]), int(parameters["zero_points"][0])


if __name__ == "__main__":
    main(*sys.argv[1:])
