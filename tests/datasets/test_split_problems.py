"""What a split gives away."""

from __future__ import annotations

import numpy as np
import pytest
from hall import SAMPLES, again, dataset, only_warning, pictures, warnings

from ddnn_tf.datasets.checking import check_dataset


def test_a_leak_says_what_it_means_and_shows_the_pairs() -> None:
    images = pictures()
    images[96:108] = again(images[:12])
    files = {
        f"device_{device}": np.array([f"{device}/{row}.png" for row in range(SAMPLES)]) for device in (0, 1)
    }
    problem = warnings(check_dataset(dataset(images, files=files)))["leak"]
    assert problem.message.startswith(
        "50 % of the test samples have a near-identical sample in the training part (empty: 50 %, busy: "
        "50 %): accuracy measured on this split says little about new scenes; tell the `time` or the `group`"
    )
    assert len(problem.files) == 24
    assert {"0/96.png", "0/0.png", "0/97.png", "0/1.png"} < set(problem.files)


def test_a_leak_names_the_splits_that_the_data_allow() -> None:
    images = pictures()
    images[96:] = again(images[:24])
    times = np.tile(np.arange(60), 2)
    groups = np.arange(SAMPLES) % 30
    by_both = warnings(check_dataset(dataset(images, times=times, instances=groups)))
    assert "split by time or by group (--split)" in by_both["leak"].message
    assert "the label of the nearest training sample is right for 100 %" in by_both["leak"].message
    assert by_both["shared_group"].message.startswith("100 % of the test samples show an object")
    by_time = warnings(check_dataset(dataset(images, times=times)))
    assert "split by time (--split)" in by_time["leak"].message
    assert by_time["near_in_time"].message.startswith("100 % of the test samples were taken right beside")


@pytest.mark.parametrize("unit", ["i8", "f8", "datetime64[s]"])
def test_what_stays_where_it_is_looks_the_same_at_any_time(unit: str) -> None:
    images = pictures()
    images[96:108] = again(images[:12])
    times = np.arange(SAMPLES).astype("i8")
    times[80:] += 5
    times[96:] += 5
    problem = only_warning(dataset(images, times=times.astype(unit)))
    assert problem.kind == "leak"
    assert "things that stay where they are, such as parked cars" in problem.message
    assert "split by group" in problem.message


def test_one_alike_pair_in_a_hundred_is_no_news() -> None:
    images = pictures(300)
    split = {"train": np.arange(80), "validation": np.arange(80, 96), "test": np.arange(96, 300)}
    images[100] = images[3]
    check = check_dataset(dataset(images, split=split))
    assert 0 < (check.leak_share or 0) < 0.01
    assert "leak" not in warnings(check)


def test_a_small_leak_is_not_exaggerated() -> None:
    images = pictures(300)
    split = {"train": np.arange(80), "validation": np.arange(80, 96), "test": np.arange(100, 300)}
    images[100:106] = again(images[:6])
    problem = only_warning(dataset(images, split=split))
    assert problem.message.startswith("3 % of the test samples")
    assert "accuracy measured on this split may be up to 3 points too high" in problem.message


def test_of_many_classes_a_leak_names_those_that_are_concerned() -> None:
    images = pictures(300)
    split = {"train": np.arange(80), "validation": np.arange(80, 100), "test": np.arange(100, 300)}
    images[100:180:10] = again(images[:80:10])
    data = dataset(images, split=split, labels=np.arange(300) % 10, class_names=tuple("abcdefghij"))
    assert "in the training part (a: 40 %):" in warnings(check_dataset(data))["leak"].message
