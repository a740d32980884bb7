"""Prepares TensorFlow for Larq: Keras 2, and no start-up chatter on the terminal.

TensorFlow reads `TF_USE_LEGACY_KERAS` once, while it is being imported, and its native
libraries write to file descriptor 2 before any logging level applies. Both can therefore only
be dealt with around the import itself, whoever triggers it, so `prepare` puts a one-time hook
in front of it instead of importing TensorFlow (which takes seconds) for programs that may
never need it.
"""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from types import ModuleType

_CHATTER = re.compile(
    rb"^(WARNING: All log messages before absl|[IW]\d{4} |E\d{4} .*cuda|.*: [IW] tensorflow/|$)"
)


def prepare() -> None:
    """Selects Keras 2 for the TensorFlow import to come, or checks the one that has been.

    Raises:
        ImportError: TensorFlow was imported before with Keras 3, which Larq cannot use.
    """
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is not None:
        if not tensorflow.keras.Model.__module__.startswith("tf_keras"):
            raise ImportError(
                "TensorFlow was imported before `ddnn_tf` and runs with Keras 3, but Larq needs "
                "Keras 2: import `ddnn_tf` before `tensorflow` (in a notebook, restart the kernel "
                "first), or set the environment variable TF_USE_LEGACY_KERAS=1."
            )
        return
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    # 3 rather than 2: on a machine without a GPU "failed call to cuInit" comes as an error.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if not any(isinstance(finder, _QuietFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _QuietFinder())


class _QuietFinder(importlib.abc.MetaPathFinder):
    """Wraps the loader of `tensorflow`, once."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _QuietLoader(spec.loader)
        return spec


class _QuietLoader(importlib.abc.Loader):
    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        with _native_chatter_dropped():
            self._loader.exec_module(module)


@contextlib.contextmanager
def _native_chatter_dropped() -> Iterator[None]:
    """Holds back what native code writes to stderr; passes on all but information lines."""
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
            held.seek(0)
            for line in held:
                if not _CHATTER.match(line):
                    os.write(2, line)
