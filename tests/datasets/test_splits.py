from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddnn_tf.datasets.splits import split_at_random, split_by_instance


@given(st.integers(10, 300), st.floats(0.05, 0.5), st.floats(0.05, 0.5), st.integers(0, 9))
def test_random_split_is_a_partition(samples: int, test: float, validation: float, seed: int) -> None:
    wanted = max(1, round(samples * test))
    parts = split_at_random(samples, test=wanted, validation_share=validation, seed=seed)
    assert sorted(np.concatenate(list(parts.values()))) == list(range(samples))
    assert len(parts["test"]) == wanted
    # Changing the share of validation never moves a sample into or out of the test set.
    again = split_at_random(samples, test=wanted, validation_share=0.3, seed=seed)
    assert np.array_equal(parts["test"], again["test"])


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 9)), min_size=30, max_size=60), st.integers(0, 9))
def test_split_by_instance_keeps_instances_together(tracks: list[tuple[int, int]], seed: int) -> None:
    tracks += [(label, 1) for label in (0, 1, 2)] * 3
    instances = np.repeat(np.arange(len(tracks)), [size for _, size in tracks])
    labels = np.repeat([label for label, _ in tracks], [size for _, size in tracks])
    parts = split_by_instance(instances, labels, test_share=0.2, validation_share=0.1, seed=seed)
    assert sorted(np.concatenate(list(parts.values()))) == list(range(len(labels)))
    groups = [set(instances[chosen]) for chosen in parts.values()]
    assert not groups[0] & groups[1]
    assert not groups[0] & groups[2]
    assert not groups[1] & groups[2]
    for chosen in parts.values():
        assert set(labels[chosen]) == {0, 1, 2}


def test_split_by_instance_needs_three_of_each_class() -> None:
    with pytest.raises(ValueError, match="Class 1 has 2 instances"):
        split_by_instance(
            np.arange(5), np.array([0, 0, 0, 1, 1]), test_share=0.2, validation_share=0.1, seed=0
        )


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, float("nan")])
def test_bad_shares(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        split_at_random(20, test=4, validation_share=share, seed=0)
    with pytest.raises(ValueError, match="test samples"):
        split_at_random(20, test=20, validation_share=0.1, seed=0)
