"""Exported networks as firmware on emulated boards: bit by bit what Keras gives, and within their bars."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from binary_models import HIDDEN, layers
from test_c_model import mnist_net
from test_c_source import random_device

from ddnn_tf.export.c import boards, convert
from ddnn_tf.export.c.boards import BOARDS, measure, measure_all, missing_tools
from ddnn_tf.export.c.host import Library
from ddnn_tf.export.c.source import write
from ddnn_tf.folding import fold
from ddnn_tf.integers import IntegerNetwork, Output, Sign, Stage, Window
from ddnn_tf.sections import Section

FIRMWARE = Path(__file__).parents[3] / "tflite" / "firmware"

pytestmark = pytest.mark.slow
needs_boards = pytest.mark.skipif(
    bool(missing_tools()), reason=f"not installed: {', '.join(missing_tools())}"
)


@pytest.fixture(scope="module")
def trained() -> tuple[dict[str, Section], np.ndarray]:
    """The devices of a DDNN trained for a moment on scenes, and all their test images."""
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.syspath_prepend(str(FIRMWARE))
    prepare = importlib.import_module("prepare")
    monkeypatch.undo()
    sections, data = prepare.trained(epochs=2)
    return sections, data.images[data.split["test"]]


def test_on_this_host_it_equals_keras_on_test_and_random_images(
    trained: tuple[dict[str, Section], np.ndarray],
) -> None:
    sections, images = trained
    random = np.random.default_rng(0).integers(0, 256, (10_000, 32, 32, 3), dtype=np.uint8)
    tested = 0
    for number in range(images.shape[1]):
        section = sections[f"device_{number}"]
        inputs = images[:, number]
        tested += len(inputs)
        if number == 0:
            inputs = np.concatenate([inputs, random])
        expected = section.run({section.name: inputs.astype(np.float32)})
        source = write(fold(section.model), "ddnn_device")
        for fast in (True, False):
            found = Library(source, fast=fast).run(inputs)
            assert np.array_equal(np.where(found["features"], 1, -1), expected["features"])
            assert np.array_equal(found["class_vector"], expected["class_vector"])
    assert tested >= 1000


@needs_boards
@pytest.mark.parametrize("board", BOARDS)
def test_on_every_board_it_equals_keras(board: str, trained: tuple[dict[str, Section], np.ndarray]) -> None:
    sections, images = trained
    inputs = np.concatenate(
        [images[:100, 2], np.random.default_rng(1).integers(0, 256, (50, 32, 32, 3), dtype=np.uint8)]
    )
    expected = sections["device_2"].run({"device_2": inputs.astype(np.float32)})
    source = write(fold(sections["device_2"].model), "ddnn_device")
    for speed in ("small", "fast"):
        _, found = measure(source, inputs, board, speed)
        assert np.array_equal(np.where(found["features"], 1, -1), expected["features"])
        assert np.array_equal(found["class_vector"], expected["class_vector"])


@needs_boards
@pytest.mark.parametrize(("filters", "limit"), [(4, 1536), (8, 2048)])
@pytest.mark.parametrize("board", ["microbit", "mps2-an386"])
def test_a_device_stays_within_two_kilobytes(board: str, filters: int, limit: int) -> None:
    network = random_device((32, 32, 3), filters, 1)
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    found, _ = measure(write(network, "net"), images, board, "small")
    assert found.flash_bytes <= limit
    assert found.scratch_bytes <= 1024
    assert found.scratch_bytes < found.ram_bytes <= 1024
    # Without floats, nothing of weight comes from the compiler's library.
    fixed, _ = measure(write(network, "net", fixed_point=True), images, board, "small")
    assert fixed.flash_bytes + fixed.library_bytes <= limit


@needs_boards
def test_the_fast_build_takes_a_quarter_of_the_instructions() -> None:
    source = write(random_device((32, 32, 3), 4, 1), "net")
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    fast, plain, small = (
        measure(source, images, "mps2-an386", speed)[0].instructions for speed in ("fast", "plain", "small")
    )
    assert 4 * fast <= min(plain, small)


@needs_boards
def test_a_binary_mnist_net_runs_on_a_cortex_m4() -> None:
    model = mnist_net()
    with pytest.warns(UserWarning, match="softmax"):
        source = convert(model).source
    images = np.random.default_rng(3).integers(0, 256, (50, 28, 28, 1), dtype=np.uint8)
    expected = tf.keras.Model(model.inputs, model.layers[-2].output).predict(
        images.astype(np.float32), verbose=0
    )
    for speed in ("small", "fast"):
        _, found = measure(source, images, "mps2-an386", speed)
        assert np.array_equal(found["output"], expected)


@needs_boards
def test_bits_go_in_and_come_out() -> None:
    model = tf.keras.Sequential(
        [layers.Input((5, 7, 3)), lq.layers.QuantConv2D(9, 3, **HIDDEN), lq.quantizers.SteSign()]
    )
    bits = np.random.default_rng(0).random((20, 5, 7, 3)) < 0.5
    _, found = measure(convert(model, name="net").source, bits, "microbit", "small")
    assert np.array_equal(found["output"], fold(model).run(bits)["output"])


@needs_boards
def test_more_instructions_than_the_timer_counts_at_once() -> None:
    """Twice the work is twice the instructions, beyond the 2^24 ticks of the timer (0.5 G instructions)."""
    random = np.random.default_rng(0)
    counts = []
    for filters in (128, 256, 512):
        weights = random.choice(np.int8([-1, 1]), (7, 7, 32, filters))
        sign = Sign(np.zeros(filters, np.int32), np.ones(filters, bool))
        stage = Stage(weights, window=Window((7, 7)), sign=sign)
        network = IntegerNetwork((46, 46, 32), True, (stage,), {"output": Output(0, (40, 40, filters))})
        bits = random.random((1, 46, 46, 32)) < 0.5
        counts.append(measure(write(network, "net"), bits, "mps3-an547", "small")[0].instructions)
    assert counts[2] > 600_000_000
    assert counts[2] - counts[1] == pytest.approx(2 * (counts[1] - counts[0]), rel=0.01)


@needs_boards
def test_a_board_that_is_too_small_says_so() -> None:
    source = write(random_device((96, 96, 3), 2, 1), "net")
    images = np.zeros((1, 96, 96, 3), np.uint8)
    found = measure_all(source, images)
    assert "overflowed" in found["microbit"]["error"]
    assert found["mps2-an386"]["instructions"] > 0
    with pytest.raises(ValueError, match="'net' does not run on microbit"):
        measure(source, images, "microbit", "small")


@needs_boards
def test_make_test_passes_on_every_board_and_fails_on_a_wrong_answer(tmp_path: Path) -> None:
    def make(*options: str) -> subprocess.CompletedProcess[str]:
        command = ["make", "-C", str(FIRMWARE), "test", f"PYTHON={sys.executable}", f"BUILD={tmp_path}"]
        return subprocess.run([*command, *options], capture_output=True, text=True, check=False)

    passed = make()
    assert passed.returncode == 0, passed.stdout + passed.stderr
    lines = [line for line in passed.stdout.splitlines() if line.startswith("pass")]
    assert {line.split(":")[0].split()[1] for line in lines} == set(BOARDS)
    assert len(lines) == 6
    # The emulator's count of a loop of 200,000 instructions, to a tick of the timer.
    assert all(
        "samples 50" in line and 199_900 < int(line.split("loop ")[1].split()[0]) < 200_100 for line in lines
    )
    expected = tmp_path / "network" / "expected.bin"
    content = bytearray(expected.read_bytes())
    content[100] ^= 1
    expected.write_bytes(bytes(content))
    failed = make()
    assert failed.returncode != 0
    assert failed.stdout.count("FAIL") == 6


def test_without_the_tools_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boards.shutil, "which", lambda tool: None if tool.startswith("qemu") else tool)
    source = write(random_device((4, 4, 1), 1, 1), "net")
    images = np.zeros((1, 4, 4, 1), np.uint8)
    assert measure_all(source, images) == {}
    with pytest.raises(FileNotFoundError, match="not installed: qemu-system-arm"):
        measure(source, images, "microbit", "small")
