"""Placement needs neither TensorFlow nor the runtime, until a Keras model is given."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("tensorflow", "tf_keras", "larq", "grpc", "ddnn_tf.runtime")


@pytest.mark.parametrize(
    "statement",
    [
        "from ddnn_tf.placement import solve",
        "from ddnn_tf.placement import random_instance, solve; solve(random_instance('single'))",
        "import ddnn_tf.placement.ddnn, ddnn_tf.placement.deployment",
        "import ddnn_tf.placement.frontier, ddnn_tf.placement.plots, ddnn_tf.placement.sweep",
        "import ddnn_tf.placement.profile",
        "from ddnn_tf.plan import Plan",
    ],
)
def test_imports_nothing_heavy(statement: str) -> None:
    code = f"{statement}\nimport sys\nprint(*(name for name in {HEAVY!r} if name in sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert result.stdout.strip() == ""
