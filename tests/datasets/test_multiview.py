from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddnn_tf.datasets import MultiViewDataset
from ddnn_tf.datasets.multiview import split_at_random, split_by_instance


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


def test_views_for_fit(tiny_data: MultiViewDataset) -> None:
    inputs = tiny_data.inputs("test")
    assert list(inputs) == ["device_0", "device_1"]
    assert inputs["device_1"].shape == (16, 8, 8, 1)
    assert inputs["device_1"].dtype == np.float32
    assert np.array_equal(inputs["device_1"], tiny_data.images[44:, 1])
    assert tiny_data.targets("test").shape == (16,)
    assert tiny_data.present("test").shape == (16, 2)


def test_choosing_devices(tiny_data: MultiViewDataset) -> None:
    swapped = tiny_data.with_devices([1, 0])
    assert np.array_equal(swapped.images[:, 0], tiny_data.images[:, 1])
    assert np.array_equal(swapped.presence[:, 0], tiny_data.presence[:, 1])
    for bad in ([], [2], [-1]):
        with pytest.raises(ValueError, match="devices between 0 and 1"):
            tiny_data.with_devices(bad)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.zeros((60, 2, 8, 8, 1))}, "uint8"),
        ({"labels": np.zeros(59, np.int64)}, "`labels` to have shape"),
        ({"labels": np.full(60, 2)}, "between 0 and 1"),
        ({"presence": np.ones((60, 3), bool)}, "`presence` to have shape"),
        ({"instances": np.ones(3, np.int64)}, "`instances` to have shape"),
        ({"split": {"train": np.arange(3)}}, "parts"),
        (
            {"split": {"train": np.arange(9), "validation": np.arange(8, 12), "test": np.arange(12, 20)}},
            "at most once over all parts",
        ),
        (
            {"split": {"train": np.arange(9), "validation": np.arange(9, 12), "test": np.array([60])}},
            "indices from 0 to 60",
        ),
        ({"split": {"train": np.arange(3), "validation": np.arange(0), "test": np.arange(3)}}, "empty"),
    ],
)
def test_contradictions(tiny_data: MultiViewDataset, change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(tiny_data, **change)
