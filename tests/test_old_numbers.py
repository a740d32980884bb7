"""Six alike cameras give the numbers that they gave before hierarchies could be of any form.

`data/three_epochs.json` was written by that version: `ddnn train --data scenes --epochs 3` with the options
that are its keys, in a process of its own. Binary networks amplify the last bit of a sum, so the numbers hold
for processors that compute like the one they were recorded on: a training of plain Keras, without this
package, tells whether this one does.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

pytestmark = pytest.mark.slow

RECORDED = json.loads((Path(__file__).parent / "data" / "three_epochs.json").read_text())


def plain_training() -> float:
    """A loss of plain Keras after a few steps, to the last digit."""
    tf.keras.utils.set_random_seed(0)
    layers = tf.keras.layers
    model = tf.keras.Sequential(
        [
            layers.Conv2D(8, 3, padding="same", use_bias=False, input_shape=(32, 32, 3)),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )
    model.compile("adam", tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    images = np.random.default_rng(0).integers(0, 256, (128, 32, 32, 3)).astype(np.float32)
    history = model.fit(images, np.arange(128) % 3, batch_size=64, epochs=4, shuffle=False, verbose=0)
    return float(history.history["loss"][-1])


@pytest.fixture(scope="module")
def same_arithmetic() -> None:
    computed = plain_training()
    if computed != RECORDED["plain_training"]:
        pytest.skip(f"this processor computes otherwise: {computed!r}, not {RECORDED['plain_training']!r}")


@pytest.mark.parametrize("options", RECORDED["runs"])
@pytest.mark.usefixtures("same_arithmetic")
def test_six_alike_cameras_give_the_old_numbers(options: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ddnn_tf.cli", "train", "--data", "scenes", "--epochs", "3", "--json"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "run"), *options.split()],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    recorded = RECORDED["runs"][options]
    assert {name: measured[name] for name in recorded} == recorded
