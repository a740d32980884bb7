"""Registries of parts that users add: aggregation schemes, data sets and export targets.

A part is registered by the module that defines it. A module outside the package is found through a
Python entry point, so the command line and every process of a cluster know its parts:

    [options.entry_points]
    ddnn_tf.plugins =
        my_sensors = my_package.sensors

The module is imported when a name is asked for that is not built in, or when all names are listed.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata
from typing import Generic, TypeVar

__all__ = ["GROUP", "Registry", "choose", "load_plugins"]

GROUP = "ddnn_tf.plugins"
"""Group of the entry points that name modules with parts to register."""

_Part = TypeVar("_Part")


class Registry(Generic[_Part]):
    """Parts of one kind by name.

    Args:
        noun: What a part is called in error messages, e.g. `aggregation scheme`.
        package: The package whose modules register the built-in parts; they are imported when a name is
            first asked for. None: the module of the registry imports them itself.
    """

    def __init__(self, noun: str, package: str | None = None) -> None:
        self._noun = noun
        self._package = package
        self._parts: dict[str, _Part] = {}
        self._modules: dict[str, str] = {}

    def register(self, name: str, part: _Part, module: str) -> None:
        """Adds a part; registering the same part again changes nothing.

        Args:
            name: Its name.
            part: The part.
            module: The module that it comes from, for error messages.

        Raises:
            ValueError: Another part has that name.
        """
        if self._parts.setdefault(name, part) != part:
            raise ValueError(
                f"Expected a new name for the {self._noun} of {module}, but '{name}' is registered by "
                f"{self._modules[name]}: rename one of them."
            )
        self._modules[name] = module

    def __getitem__(self, name: str) -> _Part:
        """The part of that name.

        Raises:
            ValueError: No part of that name is registered.
        """
        if name not in self:
            raise ValueError(
                f"Expected the {self._noun} to be one of {', '.join(self._parts)}, but got {name!r}: correct "
                f"its spelling, or install the package that registers it (entry point '{GROUP}')."
            )
        return self._parts[name]

    def __iter__(self) -> Iterator[str]:
        """All names, built-in ones first."""
        self._load_built_in()
        load_plugins()
        return iter(self._parts)

    @property
    def registered(self) -> tuple[str, ...]:
        """The names registered so far, without importing plug-ins: for help texts."""
        self._load_built_in()
        return tuple(self._parts)

    def __contains__(self, name: object) -> bool:
        # Plug-ins last: one that is not needed must not cost a device the import of TensorFlow.
        if name not in self._parts:
            self._load_built_in()
        if name not in self._parts:
            load_plugins()
        return name in self._parts

    def _load_built_in(self) -> None:
        """Imports the modules of the package, which register the built-in parts."""
        if self._package is None:
            return
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self._package}.{module.name}")


def choose(kind: str, asked: Sequence[str] | None, known: Iterable[str]) -> list[str]:
    """The names asked for, in the order of those known.

    Args:
        kind: What they name, for error messages, e.g. `target`.
        asked: The names; None: all.
        known: All names.

    Raises:
        ValueError: An unknown name, or none.
    """
    names = list(known)
    if asked is None:
        return names
    for name in asked:
        if name not in names:
            raise ValueError(f"Expected a {kind} out of {', '.join(names)}, but got {name!r}.")
    if not asked:
        raise ValueError(f"Expected at least one {kind} out of {', '.join(names)}, but got none.")
    return [name for name in names if name in asked]


@functools.cache
def load_plugins() -> None:
    """Imports the modules that installed packages name in the entry-point group `GROUP`, once.

    Raises:
        ImportError: A module fails, or registers a name that is taken; the message names its package.
    """
    for entry in metadata.entry_points(group=GROUP):
        try:
            entry.load()
        except Exception as error:  # whatever a stranger's module raises
            package = "?" if entry.dist is None else entry.dist.name
            raise ImportError(
                f"The plug-in '{entry.value}' of package '{package}' fails: {str(error).rstrip('.')}."
            ) from None
