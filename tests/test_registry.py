from __future__ import annotations

import pytest

from ddnn_tf.registry import Registry


def test_parts_are_found_by_name_in_the_order_of_registration() -> None:
    parts: Registry[int] = Registry("part")
    parts.register("one", 1)
    parts.register("two", 2)
    assert list(parts) == ["one", "two"]
    assert parts["two"] == 2
    assert "one" in parts
    assert "three" not in parts


def test_two_parts_of_one_name_are_refused_but_one_may_be_registered_twice() -> None:
    parts: Registry[object] = Registry("part")
    parts.register("one", 1)
    parts.register("one", 1)
    with pytest.raises(ValueError, match=r"a new name for the part of .*, but 'one' is registered by"):
        parts.register("one", 2)
    assert parts["one"] == 1


def test_an_unknown_name_is_an_error_with_those_there_are() -> None:
    parts: Registry[int] = Registry("part")
    parts.register("one", 1)
    with pytest.raises(ValueError, match="the part to be one of one, but got 'two'"):
        parts["two"]
