from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ddnn_tf.datasets import MultiViewDataset, fitting_topology
from ddnn_tf.datasets.multiview import coded_views
from ddnn_tf.specs import Coding


def views(shape: tuple[int, ...] = (60, 8, 8, 1), dtype: type = np.uint8) -> dict[str, np.ndarray]:
    """Views of two devices that have nothing to tell."""
    return {f"device_{number}": np.zeros(shape, dtype) for number in range(2)}


def test_views_for_fit(tiny_data: MultiViewDataset) -> None:
    inputs = tiny_data.inputs("test")
    assert list(inputs) == ["device_0", "device_1"]
    assert inputs["device_1"].shape == (16, 8, 8, 1)
    assert inputs["device_1"].dtype == np.float32
    assert np.array_equal(inputs["device_1"], tiny_data.views["device_1"][44:])
    assert tiny_data.targets("test").shape == (16,)
    assert tiny_data.present("test").shape == (16, 2)


def test_choosing_devices(tiny_data: MultiViewDataset) -> None:
    swapped = tiny_data.with_devices(["device_1", "device_0"])
    assert swapped.device_names == ("device_1", "device_0")
    assert np.array_equal(swapped.views["device_1"], tiny_data.views["device_1"])
    assert np.array_equal(swapped.presence[:, 0], tiny_data.presence[:, 1])
    for bad in ([], ["device_2"], ["device_0", "S1"]):
        with pytest.raises(ValueError, match=r"devices out of device_0, device_1 \(those of 'tiny'\)"):
            tiny_data.with_devices(bad)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"views": {}}, "at least one device, but 'tiny' has none"),
        ({"views": views(dtype=np.float32)}, "view 'device_0' to be 8-bit codes.*float32: code physical"),
        ({"views": views(dtype=np.int64)}, "uint8, but got .* int64"),
        ({"views": views(shape=(60, 2, 3, 8, 1))}, r"but got \(60, 2, 3, 8, 1\) uint8"),
        ({"views": views(shape=(60,))}, r"but got \(60,\) uint8"),
        (
            {"views": {**views(), "device_1": views(shape=(59, 4))["device_1"]}},
            "'device_1' to have 60 samples, as `labels` has, but got 59",
        ),
        ({"codings": {"S1": Coding(scale=(1,), offset=(0,))}}, "but got 'S1': no such device"),
        ({"labels": np.zeros(59, np.int64)}, "to have 59 samples, as `labels` has, but got 60"),
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


def test_codings_come_from_training_samples_alone() -> None:
    physical = {"co2": np.array([[400.0, 0.0], [500.0, 1.0], [900.0, 0.6]])}
    coded, codings = coded_views(physical, np.array([0, 1]))
    assert codings["co2"].offset == (400, 0)
    assert codings["co2"].scale == pytest.approx((100 / 255, 1 / 255))
    # Beyond the range of the training samples, the nearest code.
    assert coded["co2"].tolist() == [[0, 0], [255, 255], [255, 153]]


def test_a_topology_gets_the_codings_of_the_data_and_refuses_others(tiny_data: MultiViewDataset) -> None:
    codings = {name: Coding(scale=(0.5,), offset=(3.0,)) for name in tiny_data.device_names}
    data = replace(tiny_data, codings=codings)
    topology = fitting_topology(data)
    assert topology.codings == codings
    assert topology.with_codings(data.codings) == topology
    with pytest.raises(ValueError, match=r"'codings.device_0' are not those of the data set"):
        topology.with_codings({"device_0": Coding(scale=(1.0,), offset=(0.0,))})
    assert set(data.with_devices(["device_1"]).codings) == {"device_1"}


@pytest.mark.parametrize(
    ("scale", "offset", "message"),
    [
        ((0.0,), (1.0,), "'scale' holds 0.0: a code step must be a positive, finite float32"),
        ((-1.0,), (1.0,), "'scale' holds -1.0"),
        ((float("nan"),), (1.0,), "'scale' holds nan"),
        ((1.0,), (float("inf"),), "'offset' holds inf"),
        ((1.0, 2.0), (1.0,), "'offset' has 1 numbers and 'scale' 2"),
        ((), (), "one of each for every channel"),
    ],
)
def test_bad_codings(scale: tuple[float, ...], offset: tuple[float, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Coding(scale=scale, offset=offset)


def test_balanced_weights_are_inverse_to_the_shares_of_training(tiny_data: MultiViewDataset) -> None:
    assert tiny_data.class_weights().tolist() == [1, 1]
    labels = np.where(np.arange(60) % 4 == 0, 1, 0)
    data = replace(tiny_data, labels=labels, balance=True)
    weights = data.class_weights()
    assert weights.tolist() == pytest.approx([36 / (2 * 27), 36 / (2 * 9)])
    assert weights[data.targets("train")].mean() == pytest.approx(1)


def test_the_first_devices_or_all(tiny_data: MultiViewDataset) -> None:
    assert tiny_data.first_devices(1).device_names == ("device_0",)
    assert tiny_data.first_devices(None).device_names == tiny_data.device_names
    with pytest.raises(ValueError, match="`devices` to be at most 2, as many as 'tiny' has, but got 3"):
        tiny_data.first_devices(3)


def test_other_data_have_another_digest(tiny_data: MultiViewDataset) -> None:
    assert replace(tiny_data).digest() == tiny_data.digest()
    coded = replace(tiny_data, codings={"device_0": Coding(scale=(1,), offset=(0,))})
    others = [
        coded,
        replace(tiny_data, labels=1 - tiny_data.labels),
        replace(tiny_data, views={"left": tiny_data.views["device_0"], "right": tiny_data.views["device_1"]}),
        tiny_data.with_devices(["device_1", "device_0"]),
    ]
    assert len({data.digest() for data in (tiny_data, *others)}) == 1 + len(others)
    with pytest.raises(ValueError, match="not the one that the network was trained on"):
        coded.check_digest(tiny_data.digest())


def test_a_network_for_other_data_is_refused_in_the_terms_of_its_topology(
    tiny_data: MultiViewDataset,
) -> None:
    topology = fitting_topology(tiny_data)
    tiny_data.check_fit(topology)
    renamed = {"left": tiny_data.views["device_0"], "right": tiny_data.views["device_1"]}
    with pytest.raises(ValueError, match=r"device 'device_0' has no input.*views of left, right"):
        replace(tiny_data, views=renamed).check_fit(topology)
    with pytest.raises(ValueError, match=r"'input' of device 'device_0' is \(8, 8, 1\).*has \(4, 4\)"):
        replace(tiny_data, views=views(shape=(60, 4, 4))).check_fit(topology)
    with pytest.raises(ValueError, match="'classes' is 2, but the data set 'tiny' has 3"):
        replace(tiny_data, class_names=("a", "b", "c")).check_fit(topology)
