"""Prepares TensorFlow for Larq: Keras 2, and no start-up chatter on the terminal.

TensorFlow decides between Keras 2 and 3 when `tf.keras` is used for the first time, by the environment
variable `TF_USE_LEGACY_KERAS` and by the order of `tensorflow.__path__`. Its native libraries write to file
descriptor 2 while they load, before any logging level applies. So `prepare` puts a one-time hook in front of
the import of TensorFlow, which takes seconds and which a program may never need. If TensorFlow is imported
already, but its Keras not yet used, `prepare` still selects Keras 2.
"""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

_SWITCH = "TF_USE_LEGACY_KERAS"
# `tf.keras`, and the parts of it that TensorFlow gives a name of their own.
_KERAS_NAMES = ("keras", "losses", "metrics", "optimizers", "initializers")
_CHATTER = re.compile(
    rb"^(WARNING: All log messages before absl|[IW]\d{4} |E\d{4} .*cuda|.*: [IW] tensorflow/|$)"
)


def prepare() -> None:
    """Selects Keras 2 for TensorFlow, whether it is imported already or not.

    Raises:
        ImportError: `tf.keras` has been used before with Keras 3, which Larq cannot use.
    """
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is not None:
        if _uses_keras_3(tensorflow):
            raise ImportError(
                "TensorFlow runs with Keras 3 already, but Larq needs Keras 2: import `ddnn_tf` before "
                "`tf.keras` is used and before `larq` is imported (in a notebook, restart the kernel first), "
                "or set the environment variable TF_USE_LEGACY_KERAS=1."
            )
        _select_keras_2(tensorflow)
        return
    os.environ[_SWITCH] = "1"
    # 3 rather than 2: on a machine without a GPU "failed call to cuInit" comes as an error.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if not any(isinstance(finder, _QuietFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _QuietFinder())


def _uses_keras_3(tensorflow: ModuleType) -> bool:
    """Whether `tf.keras`, or an alias of a part of it, has become Keras 3."""
    for name in _KERAS_NAMES:
        module = vars(tensorflow).get(name)
        # Until its first use it is a subclass of ModuleType that loads Keras when an attribute is read.
        if type(module) is ModuleType and not _is_keras_2(module):
            return True
    return False


def _is_keras_2(module: ModuleType) -> bool:
    # `from tensorflow.keras import layers` gives it the name `tensorflow.keras`, so only its file tells.
    return "tf_keras" in Path(module.__file__ or "").parts


def _select_keras_2(tensorflow: ModuleType) -> None:
    os.environ[_SWITCH] = "1"
    keras_2 = importlib.util.find_spec("tf_keras")
    if keras_2 is None or not keras_2.submodule_search_locations:
        raise ImportError("Keras 2 is not installed, but Larq needs it: pip install tf-keras.")
    # `import tensorflow.keras` finds the package `keras` there.
    directory = str(Path(keras_2.submodule_search_locations[0], "api", "_v2"))
    if directory not in tensorflow.__path__:
        tensorflow.__path__ = [directory, *tensorflow.__path__]


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
