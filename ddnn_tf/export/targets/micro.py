"""TFLite Micro artefacts of device sections, run in TFLM's own interpreter.

TFLM has no sign operator, so all three precisions are made of the section's saturating form. The
interpreter runs in a child process: a file that TFLM cannot run crashes that process, which is
an error here and not a crash. Beside the file stands its C array form, with the arena that it needs
(measured by TFLM on this host, where pointers have 8 bytes; a microcontroller needs less).
"""

from __future__ import annotations

import importlib.util
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ddnn_tf.bundle import Artefact
from ddnn_tf.export.litert import Precision, convert, operators, real, tensor_order
from ddnn_tf.export.targets import EXACT, Tolerance, register_target
from ddnn_tf.export.timing import WARM_UP, Clock
from ddnn_tf.hierarchy import Role

if TYPE_CHECKING:
    from ddnn_tf.sections import Arrays, Runner, Section

__all__ = ["Micro", "c_array", "run_in_child"]

# More than any section needs; TFLM says how much of it a file used.
_ARENA = 1 << 20
# Seconds; far more than 500 samples of a device's section take.
_TIMEOUT = 600
_PER_LINE = 12
_TOLERANCES = {
    "float32": EXACT,
    "int16": Tolerance(bits=0.9999, decisions=None, accuracy=0.005),
    "int8": Tolerance(bits=0.995, decisions=None, accuracy=0.005),
}


class Micro:
    """TFLite Micro for device sections.

    Args:
        precision: `float32`, `int8`, or `int16` (16-bit activations, 8-bit weights).
    """

    extra = "micro"
    sections = "device sections"

    def __init__(self, precision: Precision = "float32") -> None:
        is_float = precision == "float32"
        # TFLM has no sign operator.
        self.precision: Precision = "saturating" if is_float else precision
        self.name = "micro" if is_float else f"micro-{precision}"
        self.tolerance = _TOLERANCES[precision]

    def takes(self, section: Section) -> bool:
        """Device sections."""
        return section.role is Role.DEVICE

    def convert(self, section: Section, samples: Arrays) -> Artefact:
        """As `Target.convert`; the file has run in TFLM once, which tells the arena size.

        Raises:
            ValueError: TFLM crashes running the file, or refuses it.
        """
        content = convert(section, self.precision, samples)
        inputs = {name: np.zeros((1, *section.model.input_shape[1:]), np.float32) for name in section.inputs}
        order = tensor_order(content)
        _, log = run_in_child(content, inputs, order["outputs"], section.name, self.name)
        arena = re.search(r"Arena allocation total (\d+) bytes", log)
        if arena is None:
            raise ValueError(f"TFLite Micro did not print the arena size of '{section.name}' ({self.name}).")
        size = int(arena.group(1))
        header, source = c_array(content, f"{section.name}_{self.name}".replace("-", "_"), size)
        return Artefact(
            section.name,
            self.name,
            {f"{self.name}.tflite": content, f"{self.name}.h": header, f"{self.name}.cc": source},
            {"operators": operators(content), "arena_bytes": size, "has_bits": section.has_bits, **order},
        )

    def runner(self, artefact: Artefact) -> Runner:
        """As `Target.runner`, each call in a child process."""

        def run(inputs: Arrays) -> Arrays:
            answers, _ = _run(artefact, inputs)
            return {
                name: real(answers[name], {"dtype": np.float32}, name, artefact.details["has_bits"])
                for name in artefact.details["outputs"]
            }

        return run

    def clock(self, artefact: Artefact) -> Clock:
        """TFLM's own time of each sample, without the child process round it."""

        def clock(inputs: Arrays, batch: int) -> list[float]:
            answers, _ = _run(artefact, inputs)
            seconds: list[float] = answers["seconds"][WARM_UP:].tolist()
            return seconds if batch == 1 else [sum(seconds) / len(seconds) * batch]

        return clock


def _run(artefact: Artefact, inputs: Arrays) -> tuple[dict[str, NDArray[np.float32]], str]:
    return run_in_child(
        artefact.content, inputs, artefact.details["outputs"], artefact.section, artefact.target
    )


def c_array(content: bytes, name: str, arena: int) -> tuple[bytes, bytes]:
    """A file as C: header and source with the array, its size, and the arena's as a constant.

    Args:
        content: The TFLite file.
        name: Name of the array, a C identifier.
        arena: Arena bytes.
    """
    rounded = -(-arena // 16) * 16
    guard = f"{name.upper()}_H_"
    header = (
        f"// TFLite Micro model {name}, written by ddnn export.\n"
        f"#ifndef {guard}\n#define {guard}\n\n"
        f"extern const unsigned char {name}[];\n"
        f"constexpr unsigned int {name}_bytes = {len(content)};\n"
        "// Measured on a 64-bit host; smaller pointers need less.\n"
        f"constexpr unsigned int {name}_arena_bytes = {rounded};\n\n"
        f"#endif  // {guard}\n"
    )
    rows = (content[at : at + _PER_LINE] for at in range(0, len(content), _PER_LINE))
    body = "\n".join("    " + " ".join(f"0x{byte:02x}," for byte in row) for row in rows)
    source = f'#include "{name}.h"\n\nalignas(16) const unsigned char {name}[] = {{\n{body}\n}};\n'
    return header.encode(), source.encode()


def run_in_child(
    content: bytes, inputs: Arrays, outputs: Sequence[str], section: str, target: str
) -> tuple[dict[str, NDArray[np.float32]], str]:
    """Runs a file in TFLM, in a process of its own.

    Args:
        content: The TFLite file.
        inputs: Its one input, `(samples, ...)` float32 by name.
        outputs: Names of its outputs, in its order.
        section: Name of the section, for errors.
        target: Name of the target, for errors.

    Returns:
        The outputs `(samples, ...)` float32 by name, and `seconds`, the time of each sample; and what TFLM
        printed.

    Raises:
        ImportError: TFLM is not installed.
        ValueError: TFLM crashed running the file, or refuses it.
    """
    if importlib.util.find_spec("tflite_micro") is None:
        raise ImportError("tflite-micro is not installed: pip install 'ddnn_tf[micro]'.")
    with tempfile.TemporaryDirectory() as place:
        model, given, answers = (Path(place) / name for name in ("model.tflite", "in.npz", "out.npz"))
        model.write_bytes(content)
        np.savez(given, **{name: np.asarray(array, np.float32) for name, array in inputs.items()})
        command = [
            sys.executable,
            "-m",
            "ddnn_tf.export.micro_child",
            *map(str, (model, given, answers, _ARENA)),
            *outputs,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
        if done.returncode < 0:
            name = signal.Signals(-done.returncode).name
            raise ValueError(f"TFLite Micro crashed ({name}) running '{section}' ({target}): leave it out.")
        if done.returncode or not answers.is_file():
            reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ValueError(f"TFLite Micro refuses '{section}' ({target}): {reason}.")
        with np.load(answers, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}, done.stdout + done.stderr


register_target(Micro())
register_target(Micro("int8"))
register_target(Micro("int16"))
