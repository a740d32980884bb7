"""A directory with the parts of `outside` as an installed package, and the command line that finds them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

__all__ = ["OUTSIDE", "Site"]

OUTSIDE = Path(__file__).parent / "outside"
_PARTS = ("attention", "two_rooms", "numpy_target")


class Site:
    """A directory on the Python path with an installed package of plug-ins.

    Args:
        directory: An empty directory, in which the commands run.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        package = directory / "outside"
        shutil.copytree(OUTSIDE, package, ignore=shutil.ignore_patterns("__pycache__"))
        (package / "__init__.py").touch()
        installed = directory / "outside-1.0.dist-info"
        installed.mkdir()
        (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
        entries = "\n".join(f"{part} = outside.{part}" for part in _PARTS)
        (installed / "entry_points.txt").write_text(f"[ddnn_tf.plugins]\n{entries}\n")

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Runs `ddnn` there."""
        return subprocess.run(
            [sys.executable, "-m", "ddnn_tf.cli", *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.directory,
            env={**os.environ, "PYTHONPATH": str(self.directory)},
        )

    def json(self, *arguments: object) -> Any:
        """What a command prints with `--json`."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)
