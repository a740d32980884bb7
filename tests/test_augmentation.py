from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from ddnn_tf.augmentation import Augmentation
from ddnn_tf.datasets import MultiViewDataset
from ddnn_tf.network import build
from ddnn_tf.topology import Topology
from ddnn_tf.training import TrainingOptions, train

PRESENT = tf.ones((16, 2), bool)


@pytest.fixture
def views() -> dict[str, tf.Tensor]:
    random = np.random.default_rng(0)
    return {
        "left": tf.constant(random.integers(0, 256, (16, 8, 10, 3)), tf.float32),
        "air": tf.constant(random.integers(0, 256, (16, 4)), tf.float32),
    }


def test_nothing_is_changed_by_default(views: dict[str, tf.Tensor]) -> None:
    same = Augmentation()(views, PRESENT, (0, 1))
    assert all(np.array_equal(same[name], view) for name, view in views.items())


def test_codes_stay_codes_and_readings_stay_as_they_are(views: dict[str, tf.Tensor]) -> None:
    augmentation = Augmentation(shift=0.3, scale=0.3, brightness=0.5, contrast=0.5, mirror=True)
    changed = augmentation(views, PRESENT, (3, 4))
    picture = changed["left"].numpy()
    assert picture.shape == (16, 8, 10, 3)
    assert np.array_equal(picture, np.rint(picture))
    assert picture.min() >= 0
    assert picture.max() <= 255
    assert not np.array_equal(picture, views["left"])
    assert np.array_equal(changed["air"], views["air"])


def test_the_seed_says_what_changes(views: dict[str, tf.Tensor]) -> None:
    augmentation = Augmentation(brightness=0.2)
    first, again, other = (augmentation(views, PRESENT, (0, batch))["left"].numpy() for batch in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_all_views_of_a_sample_are_mirrored_together(views: dict[str, tf.Tensor]) -> None:
    pair = {"left": views["left"], "right": views["left"]}
    changed = Augmentation(mirror=True)(pair, PRESENT, (0, 5))
    assert np.array_equal(changed["left"], changed["right"])
    mirrored = [
        np.array_equal(view, before[:, ::-1])
        for view, before in zip(changed["left"].numpy(), views["left"].numpy(), strict=True)
    ]
    kept = [
        np.array_equal(view, before)
        for view, before in zip(changed["left"].numpy(), views["left"].numpy(), strict=True)
    ]
    assert all(turned != same for turned, same in zip(mirrored, kept, strict=True))
    assert 0 < sum(mirrored) < 16


def test_a_shift_moves_each_view_by_itself(views: dict[str, tf.Tensor]) -> None:
    pair = {"left": views["left"], "right": views["left"]}
    changed = Augmentation(shift=0.2)(pair, PRESENT, (0, 5))
    assert not np.array_equal(changed["left"], changed["right"])


def test_absent_views_stay_black(views: dict[str, tf.Tensor]) -> None:
    presence = np.ones((16, 2), bool)
    presence[::2, 0] = False
    black = tf.where(presence[:, 0, None, None, None], views["left"], 0.0)
    changed = Augmentation(brightness=0.5)({**views, "left": black}, tf.constant(presence), (0, 1))["left"]
    assert not changed.numpy()[::2].any()
    assert changed.numpy()[1::2].any()


def test_shares_are_at_most_a_half() -> None:
    with pytest.raises(ValueError, match=r"`scale` of an augmentation in 0..0.5, but got 2"):
        Augmentation(scale=2)


def test_training_is_augmented_and_repeatable(tiny_topology: Topology, tiny_data: MultiViewDataset) -> None:
    losses = []
    for augmentation in (None, Augmentation(brightness=0.3), Augmentation(brightness=0.3)):
        tf.keras.utils.set_random_seed(0)
        options = TrainingOptions(epochs=2, batch_size=8, augmentation=augmentation)
        result = train(build(tiny_topology), tiny_data, options=options, progress=False)
        losses.append(result.history["loss"])
    assert losses[1] == losses[2]
    assert losses[0] != losses[1]


def test_data_without_pictures_are_refused() -> None:
    augmentation = Augmentation(shift=0.1)
    augmentation.check_fit({"left": (8, 10, 3), "air": (4,)})
    with pytest.raises(ValueError, match=r"but got \(16, 2\) for 'door', \(4,\) for 'air': train"):
        augmentation.check_fit({"door": (16, 2), "air": (4,)})
