"""A dictionary that keeps only the entries set last: what a process remembers of samples that went by.

>>> last = Bounded(2)
>>> last["a"], last["b"], last["c"] = 1, 2, 3
>>> list(last)
['b', 'c']
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

__all__ = ["Bounded"]

Key = TypeVar("Key")
Value = TypeVar("Value")


class Bounded(OrderedDict[Key, Value]):
    """Drops the entry that was set first when there are more than `limit`; setting one again renews it.

    Args:
        limit: The most entries.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def __setitem__(self, key: Key, value: Value) -> None:
        super().__setitem__(key, value)
        self.move_to_end(key)
        if len(self) > self._limit:
            self.popitem(last=False)
