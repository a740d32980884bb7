"""The Makefile of the gateway's device: another network is another device, and paths may hold spaces."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from random_integers import random_device

from ddnn_tf.export.c import CModel
from ddnn_tf.export.c.source import write

SOURCES = Path(__file__).parents[3] / "tflite" / "gateway"


def make(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", "-C", str(SOURCES), *options], capture_output=True, text=True, check=False)


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler is installed")
def test_another_network_is_another_device(tmp_path: Path) -> None:
    build = tmp_path / "the build"
    programs = []
    for seed in (0, 1, 0):
        network = tmp_path / f"network {seed}"
        CModel(write(random_device((8, 8, 1), 4, 1, seed=seed), "ddnn_device")).save(network)
        done = make(f"NETWORK={network}", f"BUILD={build}")
        assert done.returncode == 0, done.stderr
        programs.append((build / "posix_device").read_bytes())
    assert programs[0] != programs[1]
    assert programs[0] == programs[2]


def test_without_a_network_there_is_a_hint(tmp_path: Path) -> None:
    for options in ((), ("NETWORK=",), (f"NETWORK={tmp_path}",)):
        done = make(*options, f"BUILD={tmp_path / 'build'}")
        assert done.returncode != 0
        assert "holds no ddnn_device.c: set NETWORK to the directory of the exported C" in done.stderr
        assert not (tmp_path / "build").exists()
