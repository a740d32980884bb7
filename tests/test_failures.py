from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from ddnn_tf.failures import Failures
from ddnn_tf.recipes import Recipe

DEVICES = tuple(f"device_{number}" for number in range(6))
SEEN = tf.ones((2000, 6), tf.bool)


def drawn(
    recipe: Recipe, nodes: tuple[str, ...] = DEVICES, seen: tf.Tensor = SEEN, seed: int = 3
) -> np.ndarray:
    return Failures(recipe, DEVICES, nodes).draw(seen, tf.constant([seed, 1])).numpy()


def test_a_share_of_the_samples_loses_one_to_all_but_one_devices() -> None:
    is_up = drawn(Recipe(drop=0.5))
    losing = is_up[~is_up.all(axis=1)]
    assert len(losing) / len(is_up) == pytest.approx(0.5, abs=0.04)
    assert set((~losing).sum(axis=1)) == {1, 2, 3, 4, 5}
    assert losing.mean(axis=0) == pytest.approx(0.5, abs=0.06)


def test_the_same_seed_gives_the_same_failures() -> None:
    recipe = Recipe(drop=0.5)
    assert np.array_equal(drawn(recipe), drawn(recipe))
    assert not np.array_equal(drawn(recipe), drawn(recipe, seed=4))


def test_any_node_fails_by_its_survival_rate() -> None:
    is_up = drawn(Recipe(survival={"edge_0": 0.7, "device_1": 0.0}), (*DEVICES, "edge_0", "edge_1"))
    assert is_up[:, 6].mean() == pytest.approx(0.7, abs=0.04)
    assert not is_up[:, 1].any()
    assert is_up[:, [0, 2, 3, 4, 5, 7]].all()


def test_dropped_devices_leave_edges_alone() -> None:
    is_up = drawn(Recipe(drop=1.0), (*DEVICES, "edge_0"))
    assert is_up[:, 6].all()
    assert not is_up[:, :6].all(axis=1).any()
    assert is_up[:, :6].any(axis=1).all()


def test_devices_that_do_not_see_the_object_are_lost_first() -> None:
    seen = tf.constant(np.random.default_rng(0).random((500, 6)) < 0.4)
    is_up = drawn(Recipe(drop=1.0, mask_absent=True), seen=seen)
    sees_any = seen.numpy().any(axis=1)
    assert not (is_up & ~seen.numpy())[sees_any].any()
    assert is_up.any(axis=1).all()


def test_a_rate_of_an_unknown_node_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`survival` of nodes out of device_0.*, but got 'edge_9'"):
        Failures(Recipe(survival={"edge_9": 0.5}), DEVICES, DEVICES)
