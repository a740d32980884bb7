"""Prepares TensorFlow for Larq: Keras 2, the layers of saved models, and no start-up chatter on the terminal.

TensorFlow decides between Keras 2 and 3 when `tf.keras` is used for the first time, by the environment
variable `TF_USE_LEGACY_KERAS` and by the order of `tensorflow.__path__`. Its native libraries write to file
descriptor 2 while they load, before any logging level applies. So `prepare` puts a one-time hook in front of
the import of TensorFlow, which takes seconds and which a program may never need. If TensorFlow is imported
already, but its Keras not yet used, `prepare` still selects Keras 2.

Keras loads a saved model only if the layers in it are registered, which importing their modules does. So the
same hook imports these modules as soon as TensorFlow and its Keras are there.
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


def prepare(layers: Sequence[str]) -> None:
    """Selects Keras 2 for TensorFlow, whether it is imported already or not, and registers layers with it.

    Args:
        layers: Names of the modules that register layers with Keras when they are imported.

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
        _import_all(layers)
        return
    os.environ[_SWITCH] = "1"
    # 3 rather than 2: on a machine without a GPU "failed call to cuInit" comes as an error.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder(layers))


def _import_all(modules: Sequence[str]) -> None:
    # One of them may be what imports TensorFlow just now: it is then found half imported, and goes on later.
    for module in modules:
        importlib.import_module(module)


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


class _Finder(importlib.abc.MetaPathFinder):
    """Wraps the loaders of TensorFlow and Keras 2, once each.

    Args:
        layers: The modules to import when both are there. Each of the two imports the other, so that is when
            the one which came first is.
    """

    def __init__(self, layers: Sequence[str]) -> None:
        self._layers = layers
        self._awaited = {"tensorflow", "tf_keras"}
        self._under_way = 0

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self._awaited:
            return None
        self._awaited.remove(fullname)
        if not self._awaited:
            sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self)
        return spec

    @contextlib.contextmanager
    def importing(self) -> Iterator[None]:
        """Around the import of either: keeps it quiet, and imports the layers after the outer one."""
        self._under_way += 1
        try:
            with _native_chatter_dropped():
                yield
        finally:
            self._under_way -= 1
        if not self._under_way:
            _import_all(self._layers)


class _Loader(importlib.abc.Loader):
    def __init__(self, loader: importlib.abc.Loader, finder: _Finder) -> None:
        self._loader = loader
        self._finder = finder

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        with self._finder.importing():
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
