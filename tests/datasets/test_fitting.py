"""Topologies that fit a data set."""

from __future__ import annotations

import pytest

from ddnn_tf.datasets import MultiViewDataset, fitting_topology


def test_one_number_of_filters_for_each_block(tiny_data: MultiViewDataset) -> None:
    (devices,) = fitting_topology(tiny_data, filters=[4, 8]).devices
    assert (devices.count, devices.filters) == (2, (4, 8))
    (devices,) = fitting_topology(tiny_data, filters=3).devices
    assert devices.filters == (3,)


@pytest.mark.parametrize("filters", [0, [], [4, 0]])
def test_a_block_without_filters_is_refused(tiny_data: MultiViewDataset, filters: int | list[int]) -> None:
    with pytest.raises(ValueError, match=r"Expected `filters` to be positive, .* but got"):
        fitting_topology(tiny_data, filters=filters)
