"""The search for near-identical samples."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ddnn_tf.datasets import MultiViewDataset, load_dataset
from ddnn_tf.datasets import leaks as leaks_module
from ddnn_tf.datasets.leaks import Leaks, find_leaks, has_contrast, small_copies, standardised

TRAIN, TEST = np.arange(60), np.arange(60, 80)


def scenes(samples: int, devices: int = 2, seed: int = 0) -> NDArray[np.uint8]:
    """Different pictures `(samples, devices, 32, 32, 3)`, with areas of one brightness as things have."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (samples, devices, 8, 8, 3), dtype=np.uint8)
    return coarse.repeat(4, axis=2).repeat(4, axis=3)


def search(
    pictures: NDArray[np.uint8],
    presence: NDArray[np.bool_] | None = None,
    labels: NDArray[np.int64] | None = None,
) -> Leaks:
    samples, devices = pictures.shape[:2]
    copies = {f"device_{device}": small_copies(pictures[:, device]) for device in range(devices)}
    content = np.stack([has_contrast(grey) for grey in copies.values()], axis=1)
    if presence is not None:
        content &= presence
    labels = np.arange(samples) % 2 if labels is None else labels
    return find_leaks(copies, content, labels, train=TRAIN, test=TEST)


def noisy(pictures: NDArray[np.uint8], seed: int = 1) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).normal(0, 6, pictures.shape)
    return np.clip(pictures + noise, 0, 255).astype(np.uint8)


def test_other_scenes_are_no_leak() -> None:
    leaks = search(scenes(80))
    assert leaks.share == 0
    assert leaks.worst(5) == []
    assert (leaks.nearest >= 0).all()


def test_a_scene_taken_again_is_a_leak_although_the_camera_has_noise() -> None:
    pictures = scenes(80)
    pictures[70:] = noisy(pictures[5:15])
    leaks = search(pictures)
    assert leaks.share == 0.5
    assert leaks.twins.tolist() == [-1] * 10 + list(range(5, 15))
    assert leaks.nearest[10:].tolist() == list(range(5, 15))
    assert (leaks.twin_differences[10:] < 0.1).all()
    assert leaks.by_view == {"device_0": 0.5, "device_1": 0.5}


def test_one_view_alike_of_many_is_no_leak_of_the_sample() -> None:
    pictures = scenes(80, devices=3)
    pictures[60:, 0] = pictures[:20, 0]
    leaks = search(pictures)
    assert leaks.share == 0
    assert leaks.by_view == {"device_0": 1.0, "device_1": 0.0, "device_2": 0.0}


def test_most_views_alike_in_the_same_training_sample_are_a_leak() -> None:
    pictures = scenes(80, devices=3)
    pictures[60:70, :2] = pictures[:10, :2]
    # Two views, but of two training samples.
    pictures[70:, 0], pictures[70:, 1] = pictures[:10, 0], pictures[10:20, 1]
    assert search(pictures).twins.tolist() == [*range(10), *[-1] * 10]


@pytest.mark.parametrize("level", [0, 128])
def test_absent_views_are_not_alike(level: int) -> None:
    pictures = scenes(80, devices=3)
    presence = np.ones((80, 3), bool)
    presence[:, 1:] = False
    pictures[:, 1:] = level
    assert search(pictures, presence).share == 0
    # Not even if nobody marked them as absent.
    assert search(pictures).share == 0


def test_views_that_only_one_of_two_samples_has_count_against_them() -> None:
    pictures, presence = scenes(80, devices=3), np.ones((80, 3), bool)
    pictures[60:, 0] = pictures[:20, 0]
    presence[:20, 1:] = False
    leaks = search(pictures, presence)
    assert leaks.share == 0
    presence[60:, 1:] = False
    assert search(pictures, presence).share == 1


def test_a_sample_that_no_device_sees_has_no_twin_and_no_nearest() -> None:
    pictures, presence = scenes(80), np.ones((80, 2), bool)
    presence[60] = False
    leaks = search(pictures, presence)
    assert leaks.nearest[0] == -1
    assert leaks.twins[0] == -1


def test_where_classes_differ_by_little_near_identical_means_less() -> None:
    pictures = scenes(80, devices=1)
    pictures[:] = pictures[:1]
    # Day and night, and a small thing that is there or not.
    is_night = np.arange(80) // 2 % 2 == 1
    pictures[is_night] //= 3
    labels = np.arange(80) % 2
    places = 2 * np.random.default_rng(0).integers(0, 16, (80, 2))
    for picture, label, (top, left) in zip(pictures[:, 0], labels, places, strict=True):
        if label:
            picture[top : top + 2, left : left + 2] += 90
    leaks = search(noisy(pictures), labels=labels)
    assert leaks.thresholds["device_0"] < 0.05
    is_empty = labels[TEST] == 0
    assert leaks.has_twin[is_empty].all()
    assert leaks.has_twin[~is_empty].mean() < 0.5


def test_a_device_of_which_all_views_are_alike_is_not_compared() -> None:
    pictures = scenes(80)
    pictures[:, 1] = pictures[0, 1]
    leaks = search(pictures)
    assert leaks.share == 0
    assert leaks.by_view["device_1"] == 0


def test_worst_pairs_come_in_order_and_name_each_training_sample_once() -> None:
    pictures = scenes(80)
    pictures[60:62] = pictures[7]
    pictures[62] = noisy(pictures[8])
    leaks = search(pictures)
    assert leaks.share == 3 / 20
    assert [int(leaks.twins[place]) for place in leaks.worst(5)] == [7, 8]


def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures, presence = scenes(80, devices=3), np.random.default_rng(0).random((80, 3)) < 0.6
    pictures[65:75] = noisy(pictures[5:15])
    whole = search(pictures, presence)
    monkeypatch.setattr(leaks_module, "_TRAIN_BLOCK", 7)
    monkeypatch.setattr(leaks_module, "_TEST_BLOCK", 3)
    blocks = search(pictures, presence)
    assert blocks.twins.tolist() == whole.twins.tolist()
    assert blocks.nearest.tolist() == whole.nearest.tolist()
    assert blocks.by_view == whole.by_view


def test_progress_ends_with_all_comparisons() -> None:
    told: list[tuple[int, int]] = []
    copies = {"camera": small_copies(scenes(80)[:, 0])}
    find_leaks(
        copies,
        np.ones((80, 1), bool),
        np.arange(80) % 2,
        train=TRAIN,
        test=TEST,
        progress=lambda done, total: told.append((done, total)),
    )
    assert told[-1] == (20, 20)


def test_small_copies_are_means_of_areas() -> None:
    picture = np.zeros((1, 20, 6, 3), np.uint8)
    picture[0, 10:, :, :] = (30, 60, 90)
    copy = small_copies(picture).reshape(16, 6)
    assert copy[:8].max() == 0
    assert (copy[8:] == 60).all()
    assert small_copies(picture[:, :5]).shape == (1, 30)


def test_features_are_standardised_over_the_training_samples() -> None:
    view = np.array([[1, 5], [3, 5], [200, 9]], np.uint8)
    assert standardised(view, np.array([0, 1])).tolist() == [[-1, 0], [1, 0], [198, 0]]


def test_vectors_that_are_nearly_equal_are_a_leak() -> None:
    random = np.random.default_rng(0)
    view = random.integers(0, 256, (80, 12)).astype(np.uint8)
    view[75:] = np.clip(view[:5].astype(int) + random.integers(-2, 3, (5, 12)), 0, 255)
    leaks = find_leaks(
        {"node": standardised(view, TRAIN)},
        np.ones((80, 1), bool),
        np.arange(80) % 2,
        train=TRAIN,
        test=TEST,
    )
    assert leaks.twins.tolist() == [-1] * 15 + list(range(5))


def leaks_of(data: MultiViewDataset) -> Leaks:
    copies = {device: small_copies(view) for device, view in data.views.items()}
    content = data.presence & np.stack([has_contrast(grey) for grey in copies.values()], axis=1)
    return find_leaks(copies, content, data.labels, train=data.split["train"], test=data.split["test"])


@pytest.mark.parametrize(
    ("split", "least", "most"),
    [
        ("random", 0.6, 0.8),
        # What remains are the parked cars.
        ("time", 0.4, 0.6),
    ],
)
def test_real_cameras_leak(shared: Path, split: str, least: float, most: float) -> None:
    data = load_dataset("epfl", path=str(shared / "data" / "epfl_six_cameras.npz"), split=split)
    leaks = leaks_of(data)
    assert least < leaks.share < most
    is_car = data.labels[leaks.test] == 0
    assert leaks.has_twin[is_car].mean() > 0.6
    assert leaks.has_twin[~is_car].mean() == 0


def test_digits_of_others_are_no_leak(shared: Path) -> None:
    data = load_dataset("mnist", path=str(shared / "data" / "mnist"))
    some = {"train": data.split["train"][:6000], "test": data.split["test"][:500]}
    assert leaks_of(replace(data, split={**data.split, **some})).share < 0.01


def test_other_objects_of_eth80_are_no_leak(shared: Path) -> None:
    assert leaks_of(load_dataset("eth80", path=str(shared / "data" / "eth80_32.npz"))).share == 0
