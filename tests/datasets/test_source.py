from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ddnn_tf.datasets import (
    DATASETS,
    DataSource,
    MultiViewDataset,
    PictureSize,
    load_dataset,
    register_dataset,
    register_recording,
)
from ddnn_tf.datasets.recording import Recording


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "imagenet"}, r"one of .*\bscenes\b.*, but got 'imagenet'"),
        (
            {"name": "scenes", "path": "x"},
            "no `path` for the data set 'scenes', but got 'x': it takes devices, split",
        ),
        (
            {"name": "eth80", "split": "track"},
            "no `split` for the data set 'eth80', but got 'track': it takes path, devices",
        ),
        (
            {"name": "scenes", "sizes": (PictureSize(width=8, height=6),)},
            r"no `sizes` for the data set 'scenes', but got \(8x6,\)",
        ),
        ({"name": "mnist", "split_file": "x"}, "no `split_file` for the data set 'mnist'"),
        ({"name": "mvmc"}, "--path"),
        ({"name": "scenes", "samples": 10}, "no field 'samples': remove it"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_dataset(**options)  # type: ignore[arg-type]


def test_a_source_loads_the_same_data_again(shared: Path) -> None:
    source = DataSource(name="eth80", path=str(shared / "data" / "eth80_32.npz"), devices=3, seed=2)
    again = DataSource.model_validate_json(source.model_dump_json()).load()
    data = source.load()
    assert data.device_names == ("device_0", "device_1", "device_2")
    assert data.split["test"].tolist() == again.split["test"].tolist()


def test_two_data_sets_of_one_name_are_refused() -> None:
    def load_other(source: DataSource) -> MultiViewDataset:
        raise AssertionError("not loaded")

    before = DATASETS["occupancy"]
    with pytest.raises(ValueError, match=r"'occupancy' is registered by ddnn_tf.datasets.occupancy: rename"):
        register_dataset("occupancy", load_other, about="another one")
    assert DATASETS["occupancy"] is before
    with pytest.raises(ValueError, match=r"`options` out of path, devices, .*, but got 'speed'"):
        register_dataset("fast", load_other, about="another one", options=("speed",))
    assert "fast" not in DATASETS


def test_names_of_all_data_sets() -> None:
    assert {"scenes", "mvmc", "eth80", "mnist", "fashion_mnist", "cifar10", "occupancy", "mfeat"} <= set(
        DATASETS
    )


def test_recordings_of_a_plug_in_are_split_by_the_same_options() -> None:
    recording = Recording(
        name="yard",
        views={"camera": np.arange(90, dtype=np.uint8).reshape(90, 1)},
        labels=np.arange(90) % 2,
        presence=np.ones((90, 1), bool),
        class_names=("day", "night"),
        time=np.arange(90),
    )
    register_recording("yard", lambda source: recording, about="a yard")
    try:
        assert load_dataset("yard").split_rule.startswith("by time")
        random = DataSource(name="yard", split="random", test_share=0.5, seed=3)
        assert len(random.load().split["test"]) == 44
        assert random.record() is recording
        assert random.picture_fit is None
        assert DataSource(name="folder").picture_fit == "pad"
        assert DataSource(name="scenes").record() is None
        assert not random.load().balance
        assert random.model_copy(update={"class_weights": "balanced"}).load().balance
        with pytest.raises(ValueError, match="Expected 2 devices, but 'yard' has 1"):
            load_dataset("yard", devices=2)
        with pytest.raises(ValueError, match="no `fit` for the data set 'yard'"):
            load_dataset("yard", fit="pad")
    finally:
        DATASETS._parts.pop("yard")


def test_data_know_the_source_that_loaded_them_until_they_are_changed() -> None:
    source = DataSource(name="scenes", devices=2)
    data = source.load()
    assert data.origin == source
    assert data.with_devices(["device_1"]).origin is None
    assert replace(data, labels=data.labels[::-1].copy()).origin is None
