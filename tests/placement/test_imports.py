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


def test_places_a_run_without_the_runtime() -> None:
    """`ddnn place RUN` works where only the extra `placement` is installed."""
    code = (
        "import sys\nsys.modules['grpc'] = None\n"
        "from ddnn_tf.cli import place\n"
        "from ddnn_tf import runs\n"
        "from ddnn_tf.placement import ddnn\n"
        "from ddnn_tf.datasets import DataSource, fitting_topology\n"
        "data = DataSource(name='scenes', devices=1).load()\n"
        "topology = fitting_topology(data, 'b', filters=1)\n"
        "from ddnn_tf.network import build\n"
        "profile = ddnn.section_profile(build(topology), topology, {'local': 0.5}, data)\n"
        "units = [{'name': 'hub', 'type': 'jetson'}]\n"
        "deployment = ddnn.Deployment(units=units, sensors={'device_0': 'hub'})\n"
        "print(*ddnn.place_hierarchy(profile, deployment).units)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert result.stdout.split() == ["device_0", "aggregator", "cloud"], result.stderr
