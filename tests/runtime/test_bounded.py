"""What a process remembers is bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ddnn_tf.runtime.bounded import Bounded


@given(st.lists(st.integers(0, 9), max_size=60), st.integers(1, 5))
def test_the_last_entries_stay_in_the_order_in_which_they_were_set(keys: list[int], limit: int) -> None:
    bounded: Bounded[int, int] = Bounded(limit)
    for number, key in enumerate(keys):
        bounded[key] = number
    last = {key: number for number, key in enumerate(keys)}
    expected = sorted(last.items(), key=lambda entry: entry[1])[-limit:]
    assert list(bounded.items()) == expected


def test_every_way_of_setting_is_bounded() -> None:
    bounded: Bounded[str, int] = Bounded(2)
    assert bounded.setdefault("a", 1) == 1
    bounded.update({"b": 2, "c": 3})
    assert list(bounded) == ["b", "c"]
    assert bounded.setdefault("b", 9) == 2
    assert bounded.pop("b") == 2
    assert bounded.get("a") is None
