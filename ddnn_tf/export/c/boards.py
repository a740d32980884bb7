"""What an exported network takes on microcontrollers: built, and run on emulated boards.

The Makefile in `firmware` builds with `arm-none-eabi-gcc` and runs in `qemu-system-arm`.
Instructions are counted by the emulator's clock: it lets each take a nanosecond, and the firmware reads
the processor's SysTick timer before and after. A loop of 200,000 known instructions counts the same way.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddnn_tf.export.c.host import read_outputs
from ddnn_tf.export.c.source import Source
from ddnn_tf.frames import pack_words

__all__ = ["BOARDS", "SPEEDS", "Measurement", "emulate", "emulate_all", "missing_tools"]

BOARDS = {"microbit": "Cortex-M0", "mps2-an386": "Cortex-M4", "mps3-an547": "Cortex-M55"}
"""Processor of each board, by QEMU's name of the board."""

SPEEDS = {"small": "-Os", "plain": "-O2", "fast": "-O2 -DDDNN_FAST"}
"""Compiler options of each build."""

_FIRMWARE = Path(__file__).parent / "firmware"
_TOOLS = {
    "make": "make",
    "arm-none-eabi-gcc": "gcc-arm-none-eabi and libnewlib-arm-none-eabi",
    "qemu-system-arm": "qemu-system-arm",
}
# A network of a second on a real board takes a few in the emulator.
_SECONDS = 120


@dataclass(frozen=True)
class Measurement:
    """What a network takes on a board; bytes, and instructions per sample.

    Attributes:
        flash_bytes: Code and constants of the exported file.
        library_bytes: What it needs of the compiler's library besides: floats in software, memcpy.
        scratch_bytes: Its scratch structure.
        stack_bytes: Deepest stack of a call, measured.
        ram_bytes: Scratch, stack and output structure; the input itself is not among them.
        instructions: Of one call, the mean over the samples.
    """

    flash_bytes: int
    library_bytes: int
    scratch_bytes: int
    stack_bytes: int
    ram_bytes: int
    instructions: int


def missing_tools() -> list[str]:
    """Debian packages of the tools that are not installed."""
    return [package for tool, package in _TOOLS.items() if shutil.which(tool) is None]


def emulate(
    source: Source, inputs: NDArray[Any], board: str, speed: str
) -> tuple[Measurement, dict[str, NDArray[Any]]]:
    """Runs a network on a board.

    Args:
        source: The network.
        inputs: `(samples, ...)`: uint8 codes, or bool if its input is bits.
        board: One of `BOARDS`.
        speed: One of `SPEEDS`.

    Returns:
        What it takes, and what it gives: arrays by name, as `Library.run`.

    Raises:
        FileNotFoundError: Compiler or emulator are not installed.
        ValueError: It does not fit the board, or does not run there.
    """
    missing = missing_tools()
    if missing:
        raise FileNotFoundError(f"Boards are emulated with what is not installed: {', '.join(missing)}.")
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / f"{source.name}.h").write_text(source.header, encoding="utf-8")
        (place / f"{source.name}.c").write_text(source.source, encoding="utf-8")
        flat = inputs.reshape(len(inputs), -1)
        (place / "inputs.bin").write_bytes((pack_words(flat) if source.is_binary else flat).tobytes())
        settings = {
            "BOARD": board,
            "SPEED": speed,
            "NETWORK": place,
            "NAME": source.name,
            "INPUTS": place / "inputs.bin",
            "BUILD": place,
            "TIMEOUT": _SECONDS,
        }
        command = ["make", "--no-print-directory", "-s", "-C", str(_FIRMWARE), "run"]
        command += [f"{key}={value}" for key, value in settings.items()]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=2 * _SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise ValueError(f"'{source.name}' does not end on {board} ({speed}).") from None
        printed = dict(line.split() for line in done.stdout.splitlines() if len(line.split()) == 2)
        if done.returncode or int(printed.get("samples", 0)) != len(inputs):
            lines = (done.stderr + done.stdout).strip().splitlines() or ["no message"]
            reason = next((line for line in lines if "overflowed" in line or "error" in line), lines[-1])
            raise ValueError(f"'{source.name}' does not run on {board} ({speed}): {reason.strip()}")
        content = (place / f"{board}-{speed}" / "outputs.bin").read_bytes()
    numbers = {key: int(value) for key, value in printed.items()}
    # Behind the output structure a device's frames may follow.
    rows = np.frombuffer(content, np.uint8).reshape(len(inputs), -1)[:, : numbers["output"]]
    words = np.ascontiguousarray(rows).view(np.uint32)
    measured = Measurement(
        flash_bytes=numbers["flash"],
        library_bytes=numbers["library"],
        scratch_bytes=numbers["scratch"],
        stack_bytes=numbers["stack"],
        ram_bytes=numbers["scratch"] + numbers["stack"] + numbers["output"],
        instructions=numbers["instructions"],
    )
    return measured, read_outputs(source.outputs, words)


def emulate_all(source: Source, inputs: NDArray[Any]) -> dict[str, dict[str, Any]]:
    """The small and the fast build on every board, as plain data: the small one's numbers, and `fast`.

    A board that the network does not fit has an `error`. Without compiler or emulator there are none.
    """
    if missing_tools():
        return {}

    def measured(board: str) -> dict[str, Any]:
        try:
            small, fast = (asdict(emulate(source, inputs, board, speed)[0]) for speed in ("small", "fast"))
        except ValueError as error:
            return {"error": str(error)}
        return {**small, "fast": fast}

    # Compiler and emulator are processes of their own.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(BOARDS, pool.map(measured, BOARDS), strict=True))
