"""Exported networks as firmware on emulated boards: bit by bit what Keras gives, and within their bars."""

from __future__ import annotations

import configparser
import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from binary_models import DEVICES, HIDDEN, device, layers, pixels
from random_integers import random_device
from test_c_model import mnist_net

from ddnn_tf.datasets import fitting_topology, load_dataset
from ddnn_tf.export.c import boards, export_c
from ddnn_tf.export.c.boards import BOARDS, emulate, emulate_all, missing_tools
from ddnn_tf.export.c.host import Library
from ddnn_tf.export.c.source import footprint, write
from ddnn_tf.folding import fold
from ddnn_tf.integers import IntegerLayer, IntegerNetwork, Output, Sign, SlidingWindow
from ddnn_tf.network import build
from ddnn_tf.sections import Section, cut
from ddnn_tf.specs import Coding
from ddnn_tf.topology import Devices, Topology

ROOT = Path(__file__).parents[3]
FIRMWARE = ROOT / "tflite" / "firmware"

pytestmark = pytest.mark.slow
needs_boards = pytest.mark.skipif(
    bool(missing_tools()), reason=f"not installed: {', '.join(missing_tools())}"
)


@pytest.fixture(scope="module")
def trained() -> tuple[dict[str, Section], dict[str, np.ndarray]]:
    """The devices of a DDNN trained for a moment on scenes, and all their test images by device."""
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.syspath_prepend(str(FIRMWARE))
    prepare = importlib.import_module("prepare")
    monkeypatch.undo()
    data = load_dataset("scenes")
    return prepare.trained(data, fitting_topology(data, "c"), epochs=2), data.part("test")


def test_on_this_host_it_equals_keras_on_test_and_random_images(
    trained: tuple[dict[str, Section], dict[str, np.ndarray]],
) -> None:
    sections, views = trained
    random = np.random.default_rng(0).integers(0, 256, (10_000, 32, 32, 3), dtype=np.uint8)
    tested = 0
    for number, (name, images) in enumerate(views.items()):
        section = sections[name]
        tested += len(images)
        inputs = images if number else np.concatenate([images, random])
        expected = section.run({section.name: inputs.astype(np.float32)})
        source = write(fold(section.model), "ddnn_device")
        for fast in (True, False):
            found = Library(source, fast=fast).run(inputs)
            assert np.array_equal(np.where(found["features"], 1, -1), expected["features"])
            assert np.array_equal(found["class_vector"], expected["class_vector"])
    assert tested >= 1000


@needs_boards
@pytest.mark.parametrize(
    ("shape", "filters", "units"),
    [((32, 32, 3), (16,), ()), ((16, 16, 3), (4, 8, 16), (8,)), ((20, 2), (3,), ()), ((12,), (), (32,))],
    ids=str,
)
def test_the_footprint_of_an_untrained_device_is_no_less_than_what_a_board_takes(
    shape: tuple[int, ...], filters: tuple[int, ...], units: tuple[int, ...]
) -> None:
    device = Devices(name="device", input=shape, filters=filters, units=units)
    topology = Topology(devices=(device,), cloud={"units": (4,)}, classes=3)
    network = fold(cut(build(topology), topology)["device"].model)
    predicted = footprint(network)
    codes = np.zeros((1, *shape), np.uint8)
    measured = [emulate(write(network, "ddnn_device"), codes, board, "small")[0] for board in BOARDS]
    flash, ram = (max(getattr(each, name) for each in measured) for name in ("flash_bytes", "ram_bytes"))
    assert flash <= predicted.flash_bytes <= flash + 800
    assert ram <= predicted.ram_bytes <= ram + 300


@needs_boards
@pytest.mark.parametrize("board", BOARDS)
def test_on_every_board_it_equals_keras(
    board: str, trained: tuple[dict[str, Section], dict[str, np.ndarray]]
) -> None:
    sections, views = trained
    random = np.random.default_rng(1).integers(0, 256, (50, 32, 32, 3), dtype=np.uint8)
    inputs = np.concatenate([views["device_2"][:100], random])
    expected = sections["device_2"].run({"device_2": inputs.astype(np.float32)})
    source = write(fold(sections["device_2"].model), "ddnn_device")
    for speed in ("small", "fast"):
        _, found = emulate(source, inputs, board, speed)
        assert np.array_equal(np.where(found["features"], 1, -1), expected["features"])
        assert np.array_equal(found["class_vector"], expected["class_vector"])


@needs_boards
@pytest.mark.parametrize("kind", ["series and units", "units on a series", "vector"])
@pytest.mark.parametrize("board", BOARDS)
def test_series_and_vectors_on_every_board(board: str, kind: str) -> None:
    shape, filters, units = DEVICES[kind]
    coding = Coding(scale=(0.1,) * shape[-1], offset=(-3.0,) * shape[-1])
    section = device(input=shape, filters=filters, units=units, coding=coding)
    network = fold(section.model)
    inputs = pixels(*shape, samples=40)
    expected = network.run(inputs)
    source = write(network, "net", coding=section.node.coding)
    for speed in ("small", "fast"):
        _, found = emulate(source, inputs, board, speed)
        assert np.array_equal(found["features"], expected["features"])
        assert np.array_equal(found["class_vector"], expected["class_vector"])


@needs_boards
def test_a_device_without_an_exit_runs_on_a_board() -> None:
    network = fold(device(has_exit=False).model)
    inputs = pixels(10, 9, 3, samples=30)
    _, found = emulate(write(network, "net"), inputs, "microbit", "small")
    assert np.array_equal(found["features"], network.run(inputs)["features"])


@needs_boards
@pytest.mark.parametrize(("filters", "limit"), [(4, 1536), (8, 2048)])
@pytest.mark.parametrize("board", ["microbit", "mps2-an386"])
def test_a_device_stays_within_two_kilobytes(board: str, filters: int, limit: int) -> None:
    network = random_device((32, 32, 3), filters, 1)
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    found, _ = emulate(write(network, "net"), images, board, "small")
    assert found.flash_bytes <= limit
    assert found.scratch_bytes <= 1024
    assert found.scratch_bytes < found.ram_bytes <= 1024
    # Without floats, nothing of weight comes from the compiler's library.
    fixed, _ = emulate(write(network, "net", fixed_point=True), images, board, "small")
    assert fixed.flash_bytes + fixed.library_bytes <= limit


@needs_boards
def test_the_fast_build_takes_a_quarter_of_the_instructions() -> None:
    source = write(random_device((32, 32, 3), 4, 1), "net")
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    fast, plain, small = (
        emulate(source, images, "mps2-an386", speed)[0].instructions for speed in ("fast", "plain", "small")
    )
    assert 4 * fast <= min(plain, small)


@needs_boards
@pytest.mark.parametrize("board", ["microbit", "mps2-an386"])
@pytest.mark.parametrize(("values", "units", "share"), [(76, 32, 0.25), (240, 64, 0.25), (13, 3, 1.0)])
def test_a_dense_layer_on_codes_is_faster_in_the_fast_build(
    board: str, values: int, units: int, share: float
) -> None:
    weights = np.random.default_rng(0).choice(np.int8([-1, 1]), (1, 1, values, units))
    layer = IntegerLayer(weights, (1, 1, values))
    network = IntegerNetwork((values,), False, (layer,), {"output": Output(0, (units,))})
    source, inputs = write(network, "net"), pixels(values, samples=25)
    instructions = {}
    for speed in ("small", "fast"):
        measured, found = emulate(source, inputs, board, speed)
        instructions[speed] = measured.instructions
        assert np.array_equal(found["output"], network.run(inputs)["output"])
    # A tick of the timer may be more or less.
    assert instructions["fast"] <= share * instructions["small"] + 50


@needs_boards
def test_a_binary_mnist_net_runs_on_a_cortex_m4() -> None:
    model = mnist_net()
    with pytest.warns(UserWarning, match="softmax"):
        source = export_c(model).source
    images = np.random.default_rng(3).integers(0, 256, (50, 28, 28, 1), dtype=np.uint8)
    expected = tf.keras.Model(model.inputs, model.layers[-2].output).predict(
        images.astype(np.float32), verbose=0
    )
    for speed in ("small", "fast"):
        _, found = emulate(source, images, "mps2-an386", speed)
        assert np.array_equal(found["output"], expected)


@needs_boards
def test_bits_go_in_and_come_out() -> None:
    model = tf.keras.Sequential(
        [layers.Input((5, 7, 3)), lq.layers.QuantConv2D(9, 3, **HIDDEN), lq.quantizers.SteSign()]
    )
    bits = np.random.default_rng(0).random((20, 5, 7, 3)) < 0.5
    _, found = emulate(export_c(model, name="net").source, bits, "microbit", "small")
    assert np.array_equal(found["output"], fold(model).run(bits)["output"])


@needs_boards
def test_more_instructions_than_the_timer_counts_at_once() -> None:
    """Twice the work is twice the instructions, beyond the 2^24 ticks of the timer (0.5 G instructions)."""
    random = np.random.default_rng(0)
    counts = []
    for filters in (128, 256, 512):
        weights = random.choice(np.int8([-1, 1]), (7, 7, 32, filters))
        sign = Sign(np.zeros(filters, np.int32), np.ones(filters, bool))
        layer = IntegerLayer(weights, (46, 46, 32), SlidingWindow((7, 7)), sign=sign)
        network = IntegerNetwork((46, 46, 32), True, (layer,), {"output": Output(0, (40, 40, filters))})
        bits = random.random((1, 46, 46, 32)) < 0.5
        counts.append(emulate(write(network, "net"), bits, "mps3-an547", "small")[0].instructions)
    assert counts[2] > 600_000_000
    assert counts[2] - counts[1] == pytest.approx(2 * (counts[1] - counts[0]), rel=0.01)


@needs_boards
def test_a_board_that_is_too_small_says_so() -> None:
    source = write(random_device((96, 96, 3), 2, 1), "net")
    images = np.zeros((1, 96, 96, 3), np.uint8)
    found = emulate_all(source, images)
    assert "overflowed" in found["microbit"]["error"]
    assert found["mps2-an386"]["instructions"] > 0
    with pytest.raises(ValueError, match="'net' does not run on microbit"):
        emulate(source, images, "microbit", "small")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean clone of what is in this working tree, below a directory with a space in its name."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no clone, so there is nothing to clone")
    place = tmp_path_factory.mktemp("clean") / "a clone"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in listed.decode().split("\0"):
        if name.startswith(("ddnn_tf/", "tflite/")) and (ROOT / name).exists():
            assert not (ROOT / name).is_symlink(), f"{name} is a symbolic link, which many checkouts break"
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, place / name)
    return place


def make(place: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """`make test` as a user of a clone types it, with the clone's own package."""
    command = ["make", "-C", str(place / "tflite" / "firmware"), "test", f"PYTHON={sys.executable}"]
    environment = {**os.environ, "PYTHONPATH": str(place)}
    return subprocess.run([*command, *options], capture_output=True, text=True, check=False, env=environment)


@needs_boards
def test_make_test_passes_on_every_board_and_fails_on_a_wrong_answer(clone: Path) -> None:
    passed = make(clone)
    assert passed.returncode == 0, passed.stdout + passed.stderr
    lines = [line for line in passed.stdout.splitlines() if line.startswith("pass")]
    assert {line.split(":")[0].split()[1] for line in lines} == set(BOARDS)
    assert len(lines) == 6
    # The emulator's count of a loop of 200,000 instructions, to a tick of the timer.
    assert all(
        "samples 50" in line and 199_900 < int(line.split("loop ")[1].split()[0]) < 200_100 for line in lines
    )
    expected = clone / "tflite" / "firmware" / "build" / "network" / "expected.bin"
    content = bytearray(expected.read_bytes())
    content[100] ^= 1
    expected.write_bytes(bytes(content))
    failed = make(clone)
    assert failed.returncode != 0
    assert failed.stdout.count("FAIL") == 6


STAND_IN = """\
import pathlib, sys
options = dict(zip(sys.argv[2::2], sys.argv[3::2]))
if options["--section"] == "device_99":
    sys.exit("Expected --section to be one of device_0, device_1, but got 'device_99'.")
place = pathlib.Path(options["--out"])
place.mkdir(parents=True)
(place / "expected.bin").write_text("")
with (place.parent / "calls.txt").open("a") as calls:
    calls.write(f"{options['--section']} {options.get('--bundle')}\\n")
"""


def test_the_network_is_exported_anew_for_another_bundle_or_section(clone: Path, tmp_path: Path) -> None:
    """With an interpreter that notes how it is called in place of Python."""
    python = tmp_path / "python with a space"
    python.write_text(f"#!{sys.executable}\n{STAND_IN}")
    python.chmod(0o755)
    bundle = tmp_path / "my bundle.zip"
    bundle.write_bytes(b"one")
    build = tmp_path / "my build"

    def prepare(*options: str) -> int:
        command = ["make", "-C", str(clone / "tflite" / "firmware"), "network", f"PYTHON={python}"]
        return subprocess.run([*command, f"BUILD={build}", *options], check=False).returncode

    def calls() -> list[str]:
        return (build / "calls.txt").read_text().splitlines()

    of_bundle = f"BUNDLE={bundle}"
    assert prepare() == prepare() == 0
    assert calls() == ["device_0 None"]
    assert prepare(of_bundle) == prepare(of_bundle) == 0
    assert calls()[1:] == [f"device_0 {bundle}"]
    assert prepare(of_bundle, "SECTION=device_1") == 0
    bundle.write_bytes(b"two")
    assert prepare(of_bundle, "SECTION=device_1") == 0
    assert calls()[2:] == [f"device_1 {bundle}"] * 2
    assert prepare("SECTION=device_99") != 0
    assert not (build / "network" / "expected.bin").exists()
    assert prepare("SECTION=device_99") != 0
    assert len(calls()) == 4


def test_an_unknown_board_or_build_is_one_error() -> None:
    for option in ("BOARD=toaster", "SPEED=faster"):
        command = ["make", "-C", str(FIRMWARE), "run", option]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode != 0
        assert "is one of" in done.stderr


def test_the_package_carries_the_firmware() -> None:
    """Its files are in the wheel's list, so `emulate` finds them wherever the package is installed."""
    configuration = configparser.ConfigParser()
    configuration.read(ROOT / "setup.cfg")
    patterns = configuration["options.package_data"]["ddnn_tf"].split()
    for file in (ROOT / "ddnn_tf" / "export" / "c" / "firmware").iterdir():
        assert file.is_file()
        name = file.relative_to(ROOT / "ddnn_tf")
        assert any(name.match(pattern) for pattern in patterns), name


def test_without_the_tools_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boards.shutil, "which", lambda tool: None if tool.startswith("qemu") else tool)
    source = write(random_device((4, 4, 1), 1, 1), "net")
    images = np.zeros((1, 4, 4, 1), np.uint8)
    assert emulate_all(source, images) == {}
    with pytest.raises(FileNotFoundError, match="not installed: qemu-system-arm"):
        emulate(source, images, "microbit", "small")
