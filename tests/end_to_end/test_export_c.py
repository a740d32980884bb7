"""export-c, as somebody with a Larq model types it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import larq
import numpy as np
import pytest
import tensorflow as tf
from binary_models import BINARY, binary_net, chain_of, pixels

from ddnn_tf.export.c import load
from ddnn_tf.export.c.boards import missing_tools

pytestmark = pytest.mark.slow


def ddnn(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ddnn_tf.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_larq_model_becomes_c(suffix: str, tmp_path: Path) -> None:
    model = binary_net()
    file = tmp_path / f"model{suffix}"
    model.save(file)
    result = ddnn("export-c", file, "--out", tmp_path / "out", "--name", "net", "--json")
    assert result.returncode == 0, result.stderr
    summary = json.loads(result.stdout)
    assert [Path(name).name for name in summary["files"]] == ["net.h", "net.c", "net.json"]
    assert all(Path(name).is_file() for name in summary["files"])
    assert summary["outputs"] == [{"name": "output", "kind": "float32", "shape": [10]}]
    if not missing_tools():
        assert summary["boards"]["mps2-an386"]["flash_bytes"] > 1000
    assert (summary["equality"], summary["keras_rounding"]) == ("every bit and number is equal", 0)
    images = pixels(12, 11, 1)
    expected = model.predict(images.astype(np.float32), verbose=0)
    assert np.array_equal(load(tmp_path / "out").predict(images), expected)
    printed = ddnn("export-c", file, "--out", tmp_path / "out", "--name", "net", "--fixed-point")
    assert printed.returncode == 0, printed.stderr
    assert "net.h and net.c are in" in printed.stdout
    assert np.allclose(load(tmp_path / "out").predict(images), expected, atol=1e-4)


def test_a_model_trained_on_scaled_pixels_is_told_so(tmp_path: Path) -> None:
    codes = pixels(8, 8, 3)
    norm = tf.keras.layers.BatchNormalization(momentum=0, name="norm")
    first = larq.layers.QuantConv2D(4, 3, padding="same", name="first", **BINARY)
    model = chain_of(first, norm, larq.quantizers.SteSign())
    model(codes / np.float32(127.5) - 1, training=True)
    model.save(tmp_path / "net.keras")
    command = ("export-c", tmp_path / "net.keras", "--out", tmp_path / "out", "--name", "net", "--json")
    refused = ddnn(*command)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1), refused.stderr
    assert "--input-scale 1/127.5 --input-offset -1" in refused.stderr
    assert not (tmp_path / "out").exists()
    told = ddnn(*command, "--input-scale", "1/127.5", "--input-offset", "-1")
    assert told.returncode == 0, told.stderr
    summary = json.loads(told.stdout)
    assert (summary["input_scale"], summary["input_offset"]) == (1 / 127.5, -1)
    assert 0 < summary["keras_rounding"] < 1e-3
    assert "Keras rounds scaled inputs" in summary["equality"]
    found = load(tmp_path / "out").predict(codes)
    assert np.mean(found != model(codes / np.float32(127.5) - 1)) < 1e-3
    wrong = ddnn(*command, "--input-scale", "1/none")
    assert (wrong.returncode, len(wrong.stderr.splitlines())) == (2, 1), wrong.stderr
    assert "--input-scale with a number or a fraction, but got '1/none'" in wrong.stderr


def test_bad_input_is_one_line_and_writes_nothing(tmp_path: Path) -> None:
    layers = tf.keras.layers
    chain_of(layers.Conv2D(4, 3, name="real")).save(tmp_path / "real.keras")
    (tmp_path / "bad.keras").write_bytes(b"nothing")
    cases = {
        "real.keras": "weights of 'real' are not -1 and +1",
        "bad.keras": "is not a Keras model",
        "none.keras": "no model",
    }
    for name, message in cases.items():
        result = ddnn("export-c", tmp_path / name, "--out", tmp_path / "out", "--name", "net")
        assert result.returncode == 2
        assert len(result.stderr.splitlines()) == 1, result.stderr
        assert message in result.stderr
        assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("kept")
    binary_net().save(tmp_path / "net.keras")
    for options, message in (
        (("--out", tmp_path / "file"), "is a file"),
        (("--out", tmp_path, "--name", "A-b"), "A-b"),
    ):
        result = ddnn("export-c", tmp_path / "net.keras", *options)
        assert (result.returncode, len(result.stderr.splitlines())) == (2, 1), result.stderr
        assert message in result.stderr
    assert (tmp_path / "file").read_text() == "kept"
