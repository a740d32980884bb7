from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddnn_tf.datasets import splits
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


def parts_of(parts: dict[str, np.ndarray], column: np.ndarray) -> list[set]:
    return [set(column[rows].tolist()) for rows in parts.values()]


@given(st.lists(st.integers(3, 40), min_size=2, max_size=4), st.integers(0, 9))
def test_at_random_gives_every_part_of_every_class(sizes: list[int], seed: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    parts = splits.split(len(labels), splits.at_random(labels, seed), test_share=0.3, validation_share=0.2)
    assert sorted(np.concatenate(list(parts.values()))) == list(range(len(labels)))
    splits.check_classes(labels, parts, ["a", "b", "c", "d"][: len(sizes)], "x")
    again = splits.split(len(labels), splits.at_random(labels, seed), test_share=0.3, validation_share=0.2)
    assert all(np.array_equal(parts[part], again[part]) for part in splits.PARTS)


@given(st.integers(4, 12), st.integers(0, 9), st.booleans())
def test_by_group_keeps_groups_together_and_gives_every_part_every_class(
    groups_of_a_class: int, seed: int, is_mixed: bool
) -> None:
    random = np.random.default_rng(seed)
    groups = np.repeat(np.arange(3 * groups_of_a_class), random.integers(3, 9, 3 * groups_of_a_class))
    labels = groups % 3
    if is_mixed:
        labels = np.arange(len(groups)) % 3
    names = np.array([f"day {group}" for group in groups])
    parts = splits.split(
        len(labels), splits.by_group(names, labels, seed), test_share=0.3, validation_share=0.2
    )
    assert sorted(np.concatenate(list(parts.values()))) == list(range(len(labels)))
    train, validation, test = parts_of(parts, groups)
    assert not train & validation
    assert not train & test
    assert not validation & test
    splits.check_classes(labels, parts, "abc", "x")


def test_groups_with_a_rare_class_are_drawn_so_that_every_part_has_it() -> None:
    groups = np.repeat(np.arange(30), 20)
    labels = np.zeros(600, np.int64)
    # Three of thirty days have the rare class: one draw in nine serves.
    labels[groups % 10 == 0] = np.arange(60) % 2
    for seed in range(5):
        rule = splits.by_group(groups, labels, seed)
        parts = splits.split(600, rule, test_share=0.2, validation_share=0.1)
        splits.check_classes(labels, parts, ("usual", "rare"), "x")


def test_by_time_leaves_gaps() -> None:
    end = np.random.default_rng(0).permutation(np.arange(1000))
    parts = splits.split(1000, splits.by_time(end), test_share=0.2, validation_share=0.25)
    train, validation, test = (end[rows] for rows in parts.values())
    assert (len(train), train.max()) == (600, 599)
    assert (validation.min(), validation.max()) == (619, 799)
    assert (test.min(), test.max()) == (819, 999)


def test_a_window_that_begins_in_the_gap_is_in_no_part() -> None:
    end = np.arange(1000.0)
    parts = splits.split(1000, splits.by_time(end, end - 50, gap=5), test_share=0.2, validation_share=0.25)
    assert end[parts["validation"]].min() - 50 > end[parts["train"]].max() + 5
    assert end[parts["test"]].min() - 50 > end[parts["validation"]].max() + 5


def test_by_time_takes_dates() -> None:
    end = np.datetime64("2026-01-01") + np.arange(100) * np.timedelta64(1, "h")
    parts = splits.split(100, splits.by_time(end), test_share=0.2, validation_share=0.25)
    assert len(parts["train"]) == 60
    assert parts["test"].tolist() == list(range(81, 100))


def test_parts_as_given() -> None:
    labels = np.arange(60) % 2
    part = np.repeat(["train", "test"], 30)
    parts = splits.as_given(part, splits.at_random(labels, 0), validation_share=0.2)
    assert parts["test"].tolist() == list(range(30, 60))
    assert (len(parts["train"]), len(parts["validation"])) == (24, 6)
    part[:5] = "validation"[:5]
    with pytest.raises(ValueError, match=r"`part` out of train, validation, test, but got 'valid'"):
        splits.as_given(part, splits.at_random(labels, 0), validation_share=0.2)
    complete = np.array(["train", "validation", "test"])[np.arange(60) % 3]
    parts = splits.as_given(complete, splits.at_random(labels, 0), validation_share=0.2)
    assert [len(rows) for rows in parts.values()] == [20, 20, 20]


def test_a_part_without_some_class_is_refused() -> None:
    labels = np.repeat([0, 1], 50)
    parts = splits.split(100, splits.by_time(np.arange(100)), test_share=0.2, validation_share=0.1)
    with pytest.raises(
        ValueError, match=r"validation part of 'x' has no sample of the class 'car' \(50 samples"
    ):
        splits.check_classes(labels, parts, ("car", "bus"), "x")
    with pytest.raises(ValueError, match=r"class 'car' of 'x' occurs in 1 groups: .* at least 3"):
        splits.check_groups(labels, labels, ("car", "bus"), "x")


def test_a_large_share_leaves_something_to_train_with() -> None:
    labels = np.arange(60) % 3
    parts = splits.split(60, splits.at_random(labels, 0), test_share=0.99, validation_share=0.1)
    assert [len(rows) for rows in parts.values()] == [0, 3, 57]
    with pytest.raises(ValueError, match="train part of 'x' has no sample of the class 'a'"):
        splits.check_classes(labels, parts, "abc", "x")
    with pytest.raises(ValueError, match=r"at least two samples outside the test part, .* but got 0"):
        splits.as_given(np.full(60, "test"), splits.at_random(labels, 0), validation_share=0.1)


@pytest.mark.parametrize("share", [0.0, 1.0, 2.0])
def test_bad_shares_of_rules(share: float) -> None:
    with pytest.raises(ValueError, match=f"share between 0 and 1, both excluded, but got {share}"):
        splits.split(20, splits.at_random(np.arange(20) % 2, 0), test_share=share, validation_share=0.1)
