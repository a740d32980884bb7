"""The generated C: what it computes, on this machine, in both builds, and how it compiles."""

from __future__ import annotations

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from binary_models import DEVICES, ORDERS, binary_net, device, ordered, pixels
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from random_integers import random_device, random_network

from ddnn_tf.export.c import host
from ddnn_tf.export.c.host import Library, read_outputs
from ddnn_tf.export.c.source import Source, write
from ddnn_tf.folding import fold
from ddnn_tf.frames import CLASS_VECTOR, FEATURES, FIXED_POINT, pack_words, read_frame
from ddnn_tf.integers import IntegerLayer, IntegerNetwork, Output, Sign, SlidingWindow
from ddnn_tf.specs import Coding

WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wconversion", "-pedantic")
# The lanes of a vector: all that this processor has, those that every x86-64 has, and two in a word.
WIDTHS = (
    (),
    ("-march=x86-64",),
    ("-U__SSE2__", "-U__AVX2__", "-U__AVX512BW__", "-U__ARM_NEON", "-U__POPCNT__"),
)


def assert_equal(network: IntegerNetwork, inputs: np.ndarray, *, name: str = "net") -> Source:
    source = write(network, name)
    expected = network.run(inputs)
    for fast in (False, True):
        found = Library(source, fast=fast).run(inputs)
        assert list(found) == list(expected)
        for output, values in expected.items():
            assert found[output].dtype == values.dtype
            assert np.array_equal(found[output], values), (output, fast)
    return source


@pytest.mark.parametrize("filters", [1, 3, 4, 16, 17, 32])
@pytest.mark.parametrize(("blocks", "shape"), [(1, (32, 32, 3)), (2, (9, 10, 1)), (3, (20, 33, 3))])
def test_devices_of_any_size(filters: int, blocks: int, shape: tuple[int, int, int]) -> None:
    assert_equal(random_device(shape, filters, blocks), pixels(*shape, samples=40))


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 12),
    width=st.integers(1, 70),
    channels=st.integers(1, 5),
    filters=st.integers(1, 40),
    blocks=st.integers(1, 2),
    seed=st.integers(0, 1000),
)
def test_devices_of_odd_shapes(
    height: int, width: int, channels: int, filters: int, blocks: int, seed: int
) -> None:
    network = random_device((height, width, channels), filters, blocks, seed=seed)
    assert_equal(network, pixels(height, width, channels, samples=4, seed=seed)[::-1])


@pytest.mark.parametrize("order", ORDERS)
def test_any_sensible_order_of_layers(order: str) -> None:
    model, inputs = ordered(order)
    assert_equal(fold(model), inputs)


@pytest.mark.parametrize("units", [1, 7, 8, 33])
@pytest.mark.parametrize("values", [1, 31, 32, 33, 100])
def test_dense_layers_on_codes(values: int, units: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The small build, the fast one that counts bits, and the fast one of processors that cannot."""
    random = np.random.default_rng(values)
    weights = random.choice(np.int8([-1, 1]), (1, 1, values, units))
    layer = IntegerLayer(weights, (1, 1, values))
    network = IntegerNetwork((values,), False, (layer,), {"output": Output(0, (units,))})
    source = assert_equal(network, pixels(values))
    monkeypatch.setattr(host, "_FAST", ("-O2", "-DDDNN_FAST", "-U__POPCNT__", "-U__aarch64__"))
    inputs = pixels(values)
    assert np.array_equal(Library(source).run(inputs)["output"], network.run(inputs)["output"])


@pytest.mark.parametrize("kind", DEVICES)
def test_devices_of_every_kind(kind: str) -> None:
    shape, filters, units = DEVICES[kind]
    network = fold(device(input=shape, filters=filters, units=units).model)
    source = assert_equal(network, pixels(*shape))
    assert source.input_shape == shape


@pytest.mark.parametrize("options", [{}, {"scaled": True}, {"biased": True}], ids=str)
def test_a_binary_net(options: dict[str, bool]) -> None:
    assert_equal(fold(binary_net(**options)), pixels(12, 11, 1))


def test_fixed_point_is_within_its_unit() -> None:
    network = random_device((12, 12, 3), 4, 1)
    source = write(network, "net", fixed_point=True)
    assert source.fraction_bits is not None
    assert 15 <= source.fraction_bits <= 30
    inputs = pixels(12, 12, 3)
    found = Library(source).run(inputs)
    expected = network.run(inputs)
    assert found["class_vector"].dtype == np.int32
    assert np.array_equal(found["features"], expected["features"])
    error = np.abs(found["class_vector"] / 2.0**source.fraction_bits - expected["class_vector"])
    taps = network.layers[-1].taps
    assert error.max() < (taps + 1) * 2.0**-source.fraction_bits + 1e-5
    plain = Library(source, fast=False).run(inputs)
    assert np.array_equal(plain["class_vector"], found["class_vector"])


def test_fixed_point_never_overflows() -> None:
    """The largest sums, both ways, and scales from tiny to huge."""
    for scale in (1e-6, 1e-3, 1.0, 1e4):
        weights = np.int8(np.where(np.arange(64)[:, None] % 2, 1, [[1, -1]]))[None, None]
        steps = ((np.float32([scale, -scale]), np.float32([3, scale])),)
        layer = IntegerLayer(weights, (1, 1, 64), steps=steps)
        network = IntegerNetwork((64,), True, (layer,), {"class_vector": Output(0, (2,))})
        source = write(network, "net", fixed_point=True)
        inputs = np.ones((2, 64), bool)
        inputs[1] = False
        found = Library(source).run(inputs)["class_vector"] / 2.0 ** (source.fraction_bits or 0)
        assert np.allclose(found, network.run(inputs)["class_vector"], rtol=1e-6, atol=1e-5)


def every_form() -> dict[str, Source]:
    networks = {f"order_{at}": fold(ordered(order)[0]) for at, order in enumerate(ORDERS)}
    networks["net"] = fold(binary_net(scaled=True))
    for name in ("series_and_units", "vector"):
        shape, filters, units = DEVICES[name.replace("_", " ")]
        networks[name] = fold(device(input=shape, filters=filters, units=units).model)
    networks["without_exit"] = fold(device(has_exit=False).model)
    for filters, blocks in ((1, 1), (4, 1), (17, 2), (32, 3)):
        networks[f"device_{filters}_{blocks}"] = random_device((9, 14, 3), filters, blocks)
    sources = {name: write(network, name) for name, network in networks.items()}
    coding = Coding(scale=(0.25, 1e-7, 3e5), offset=(-3.0, 1 / 3, 1e9))
    sources["coded"] = write(networks["device_4_1"], "coded", coding=coding)
    for name in ("net", "device_4_1"):
        sources[f"{name}_fixed"] = write(networks[name], f"{name}_fixed", fixed_point=True)
    return sources


COMPILERS = {
    "gcc": ["gcc", "-std=c99"],
    "clang": ["clang", "-std=c99"],
    "g++": ["g++", "-x", "c++", "-std=c++17"],
    "clang++": ["clang++", "-x", "c++", "-std=c++17"],
    "arm-none-eabi-gcc": ["arm-none-eabi-gcc", "-std=c99", "-mthumb", "-mcpu=cortex-m0"],
}


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("forms")
    for name, source in every_form().items():
        (place / f"{name}.h").write_text(source.header)
        (place / f"{name}.c").write_text(source.source)
    return place


@pytest.mark.slow
@pytest.mark.parametrize("compiler", COMPILERS)
def test_every_form_compiles_without_a_warning(compiler: str, forms: Path) -> None:
    if shutil.which(COMPILERS[compiler][0]) is None:
        pytest.skip(f"{compiler} is not installed")
    for file in sorted(forms.glob("*.c")):
        for speed in (["-Os"], ["-O2", "-DDDNN_FAST"]):
            command = [*COMPILERS[compiler], *WARNINGS, *speed, "-c", str(file), "-o", "/dev/null"]
            done = subprocess.run(command, capture_output=True, text=True, cwd=forms, check=False)
            assert done.returncode == 0, done.stderr


def test_nothing_of_the_library_but_memcpy_is_used(forms: Path, tmp_path: Path) -> None:
    for file in sorted(forms.glob("*.c")):
        text = file.read_text() + file.with_suffix(".h").read_text()
        included = {line.split()[1] for line in text.splitlines() if line.startswith("#include <")}
        assert included == {"<stdint.h>", "<string.h>"}
        subprocess.run(["cc", "-std=c99", "-Os", "-c", file, "-o", tmp_path / "net.o"], check=True)
        listed = subprocess.run(
            ["nm", "-u", tmp_path / "net.o"], capture_output=True, text=True, check=True
        ).stdout
        assert {name.lstrip("_") for name in listed.split() if name != "U"} <= {"memcpy", "memset"}


DRIVER = """\
#include "net.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void frames(const net_output *output, unsigned long whole, int which)
{
    for (uint32_t capacity = 0; capacity < whole + 9; capacity++) {
        uint8_t *frame = malloc(capacity ? capacity : 1); /* of just this size: a byte more is noticed */
        const uint32_t written = which
            ? net_frame_features(output, 7, 123456, frame, capacity)
            : net_frame_class_vector(output, 7, 123456, frame, capacity);
        if (written != (capacity < whole ? 0 : whole))
            exit(3);
        if (capacity == whole)
            fwrite(frame, 1, written, stdout);
        free(frame);
    }
}

int main(void)
{
    uint8_t *input = malloc(NET_INPUT_BYTES);
    net_scratch *scratch = malloc(sizeof *scratch);
    net_output *output = malloc(sizeof *output);
    memset(scratch, 0xa5, sizeof *scratch);
    while (fread(input, 1, NET_INPUT_BYTES, stdin) == NET_INPUT_BYTES) {
        net_run(input, scratch, output);
        fwrite(output, sizeof *output, 1, stdout);
        frames(output, NET_CLASS_VECTOR_FRAME_BYTES, 0);
        frames(output, NET_FEATURES_FRAME_BYTES, 1);
    }
    free(input);
    free(scratch);
    free(output);
    return 0;
}
"""
PLAIN_DRIVER = """\
#include "net.h"
#include <stdio.h>
#include <stdlib.h>

int main(void)
{
    void *input = malloc(NET_INPUT_BYTES);
    net_scratch *scratch = malloc(sizeof *scratch);
    net_output *output = malloc(sizeof *output);
    while (fread(input, 1, NET_INPUT_BYTES, stdin) == NET_INPUT_BYTES) {
        net_run(input, scratch, output);
        fwrite(output, sizeof *output, 1, stdout);
    }
    free(input);
    free(scratch);
    free(output);
    return 0;
}
"""
SANITIZED = ("-g", "-O1", "-std=c99", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
SHAPES = ((1, 1, 1), (2, 3, 3), (7, 33, 1), (16, 16, 3))


def fuzz(place: Path, filters: int, width: tuple[str, ...], fast: bool) -> None:
    """One device under the sanitizers: random images, and frames into buffers of every length."""
    shape = SHAPES[filters % len(SHAPES)]
    network = random_device(shape, filters, 1 + filters % 3, seed=filters)
    source = write(network, "net", fixed_point=filters % 5 == 0)
    place.mkdir()
    for file, text in (("net.h", source.header), ("net.c", source.source), ("driver.c", DRIVER)):
        (place / file).write_text(text)
    options = [*SANITIZED, *(("-DDDNN_FAST", "-march=native", *width) if fast else ())]
    subprocess.run(["gcc", *options, "net.c", "driver.c", "-o", "driver"], cwd=place, check=True)
    inputs = pixels(*shape, samples=30, seed=filters)
    done = subprocess.run([place / "driver"], input=inputs.tobytes(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stderr == b""
    words = sum(member.words for member in source.outputs)
    expected = network.run(inputs)
    rows = np.frombuffer(done.stdout, np.uint8).reshape(len(inputs), -1)
    vector_kind = CLASS_VECTOR if source.fraction_bits is None else FIXED_POINT
    for row, bits, vector in zip(rows, expected["features"], expected["class_vector"], strict=True):
        sent = row[4 * words :].tobytes()
        first = 20 + 4 * len(vector)
        frames = [read_frame(sent[:first]), read_frame(sent[first:])]
        assert [(frame.kind, frame.device, frame.sample) for frame in frames] == [
            (vector_kind, 7, 123456),
            (FEATURES, 7, 123456),
        ]
        assert np.array_equal(frames[1].features(bits.shape) > 0, bits)
        assert np.allclose(frames[0].class_vector(), vector, atol=1e-3)


@pytest.mark.slow
def test_no_sanitizer_finds_anything(tmp_path: Path) -> None:
    """All filter counts, in the plain build and in the fast one with vectors of every width."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    cases = [(filters, (), False) for filters in range(1, 33)]
    cases += [(filters, WIDTHS[filters % len(WIDTHS)], True) for filters in range(1, 33)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda at: fuzz(tmp_path / str(at), *cases[at]), range(len(cases))))


def fuzz_chain(place: Path, seed: int) -> None:
    """One random network under the sanitizers, in both builds."""
    network, inputs = random_network(seed)
    source = write(network, "net")
    place.mkdir()
    for file, text in (("net.h", source.header), ("net.c", source.source), ("driver.c", PLAIN_DRIVER)):
        (place / file).write_text(text)
    given = pack_words(inputs.reshape(len(inputs), -1)) if network.is_binary else inputs
    expected = network.run(inputs)
    for options in ((), ("-DDDNN_FAST", "-march=native", *WIDTHS[seed % len(WIDTHS)])):
        command = ["gcc", *SANITIZED, *WARNINGS, *options, "net.c", "driver.c", "-o", "driver"]
        built = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
        assert built.returncode == 0, f"{seed}: {built.stderr}"
        done = subprocess.run([place / "driver"], input=given.tobytes(), capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b""), f"{seed}: {done.stderr.decode()}"
        words = np.frombuffer(done.stdout, np.uint32).reshape(len(inputs), -1)
        found = read_outputs(source.outputs, words)["output"]
        assert np.array_equal(found, expected["output"]), f"{seed} {options}"


@pytest.mark.slow
def test_random_chains_are_exact_and_no_sanitizer_finds_anything(tmp_path: Path) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda seed: fuzz_chain(tmp_path / str(seed), seed), range(40)))


def test_bad_names_and_sizes_are_refused() -> None:
    network = random_device((8, 8, 1), 2, 1)
    with pytest.raises(ValueError, match="C identifier in lower case, but got 'My-Net'"):
        write(network, "My-Net")
    sign = Sign(np.int32([0]), np.ones(1, bool))
    weights = np.ones((1, 300, 1, 1), np.int8)
    huge = IntegerLayer(weights, (1, 400, 1), SlidingWindow((1, 300)), sign=sign)
    wide = IntegerNetwork((1, 400, 1), False, (huge,), {"output": Output(0, (1, 101, 1))})
    with pytest.raises(ValueError, match="too large for the C export"):
        write(wide, "net")
    with pytest.raises(ValueError, match="ends in bits or integers"):
        write(fold(ordered("dense on pixels")[0]), "net", fixed_point=True)


def test_a_class_vector_of_integers_is_framed_as_fixed_point() -> None:
    network = random_device((8, 8, 1), 2, 1)
    last = replace(network.layers[-1], steps=())
    source = write(replace(network, layers=(network.layers[0], last)), "net")
    assert "return frame_payload(3u" in source.source
    assert {member.kind for member in source.outputs} == {"bits", "int32"}


def coded(coding: Coding) -> Source:
    """The smallest network on as many channels as a coding has."""
    channels = len(coding.scale)
    layer = IntegerLayer(np.ones((1, 1, channels, 1), np.int8), (1, 1, channels))
    network = IntegerNetwork((channels,), False, (layer,), {"output": Output(0, (1,))})
    return write(network, "net", coding=coding)


CODING = Coding(
    scale=(1.0, 0.5, 1 / 3, 1e-3, 7.7e6, 1.2e-38, 2.0), offset=(0.0, -10.25, 1 / 7, 21.5, -3e9, 0.0, 3e38)
)


FAST_MATH = (
    "-freciprocal-math", "-fassociative-math", "-fno-signed-zeros", "-fno-trapping-math",
    "-ffinite-math-only", "-fno-math-errno", "-ffp-contract=fast",
)  # fmt: skip


@pytest.fixture(scope="module")
def encoders() -> dict[str, Library]:
    """The same coding in the small and the fast build, and in one with all that `-ffast-math` allows.

    The option itself would also link code that changes how this whole process treats small floats.
    """
    source = coded(CODING)
    libraries = {"small": Library(source, fast=False), "fast": Library(source)}
    patch = pytest.MonkeyPatch()
    patch.setattr(host, "_FAST", ("-O3", "-march=native", *FAST_MATH))
    libraries["careless"] = Library(source)
    patch.undo()
    return libraries


FLOATS = st.floats(width=32, allow_nan=False)


@settings(max_examples=200, deadline=None)
@given(
    values=hnp.arrays(np.float32, st.tuples(st.integers(1, 4), st.just(7)), elements=FLOATS),
    steps=hnp.arrays(np.int64, st.tuples(st.integers(1, 4), st.just(7)), elements=st.integers(-4, 516)),
    nudge=st.sampled_from([-np.inf, 0, np.inf]),
)
def test_the_c_encodes_readings_bit_by_bit_as_python_does(
    encoders: dict[str, Library], values: np.ndarray, steps: np.ndarray, nudge: float
) -> None:
    """Any float32, and readings at and beside the halves between two codes."""
    scale, offset = np.float32(CODING.scale), np.float32(CODING.offset)
    halves = np.float32(steps) / 2 * scale + offset
    beside = halves if nudge == 0 else np.nextafter(halves, np.float32(nudge))
    with np.errstate(over="ignore"):
        readings = np.concatenate([values, beside.astype(np.float32)])
        expected = CODING.encode(readings)
    for build, library in encoders.items():
        assert np.array_equal(library.encode(readings), expected), build


@settings(max_examples=10, deadline=None)
@given(
    scale=st.lists(st.floats(2**-60, 2**60, width=32), min_size=1, max_size=3),
    offset=st.floats(-(2**60), 2**60, width=32),
    seed=st.integers(0, 99),
)
def test_any_coding_is_exact_in_c(scale: list[float], offset: float, seed: int) -> None:
    coding = Coding(scale=tuple(scale), offset=(offset,) * len(scale))
    random = np.random.default_rng(seed)
    readings = random.uniform(-20, 280, (300, len(scale))) * np.asarray(scale) + offset
    assert np.array_equal(Library(coded(coding)).encode(readings), coding.encode(readings))


def test_halves_go_to_the_even_code_and_what_is_beyond_to_the_ends() -> None:
    coding = Coding(scale=(1.0,), offset=(0.0,))
    halves = [0.5, 1.5, 2.5, 253.5, 254.5, -0.5, -1, 255.5, 1e38, -np.inf, np.inf]
    readings = np.float32(halves)[:, None]
    codes = Library(coded(coding)).encode(readings)
    assert codes.ravel().tolist() == [0, 2, 2, 254, 254, 0, 0, 255, 255, 0, 255]
    assert np.array_equal(codes, coding.encode(readings))


def test_a_coding_fits_the_input_and_readings_are_checked() -> None:
    network = random_device((8, 8, 3), 2, 1)
    with pytest.raises(ValueError, match="coding of 3 channels for codes, but got one of 1"):
        write(network, "net", coding=Coding(scale=(1.0,), offset=(0.0,)))
    bits = fold(ordered("a binary input")[0])
    with pytest.raises(ValueError, match="for bits"):
        write(bits, "net", coding=Coding(scale=(1.0, 1.0), offset=(0.0, 0.0)))
    library = Library(coded(Coding(scale=(1.0,), offset=(0.0,))))
    with pytest.raises(ValueError, match="without NaN"):
        library.encode(np.full((2, 1), np.nan))
    with pytest.raises(ValueError, match=r"\(samples, 1\)"):
        library.encode(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="without a coding"):
        Library(write(network, "net")).encode(np.zeros((2, 8, 8, 3)))


def test_floats_are_written_with_nine_digits() -> None:
    values = np.float32([3e-7, 1 / 3, 1.0, -0.0, 16777216.0, 1e-38])
    layer = IntegerLayer(np.ones((1, 1, 8, 6), np.int8), (1, 1, 8), steps=((values, values),))
    network = IntegerNetwork((8,), True, (layer,), {"class_vector": Output(0, (6,))})
    inputs = np.random.default_rng(0).random((50, 8)) < 0.5
    assert_equal(network, inputs)
