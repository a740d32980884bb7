"""A check of a data set as a whole."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from hall import SAMPLES, again, dataset, pictures, warnings

from ddnn_tf.datasets import DataSource
from ddnn_tf.datasets.checking import check_dataset, check_source
from ddnn_tf.datasets.recording import Problem, Recording


def test_sound_data_have_no_problems() -> None:
    check = check_dataset(dataset())
    assert check.errors == check.warnings == ()
    assert check.leak_share == 0
    assert check.shared_groups is None
    assert check.not_compared == {}


def recording(**changes: Any) -> Recording:
    """What `dataset` holds, before it is split."""
    data = dataset()
    whole = {name: getattr(data, name) for name in ("name", "views", "labels", "presence", "class_names")}
    return Recording(**{**whole, **changes})


def test_a_users_own_data_must_have_every_class_in_every_part() -> None:
    part = np.repeat(["train", "validation", "test"], [80, 16, 24])
    labels = np.arange(SAMPLES) % 2
    labels[80:] = 0
    own = recording(labels=labels, part=part, skipped=3, problems=(Problem("labels", "They disagree."),))
    check = check_dataset(own.in_parts(*own.parts()), own)
    assert [problem.kind for problem in check.errors] == ["labels", "missing_class", "missing_class"]
    assert "The validation part has no sample of the class 'busy'" in check.errors[1].message
    assert "3 pictures cannot be read" in warnings(check)["unreadable"].message


def test_a_split_that_the_data_do_not_allow_is_an_error_beside_the_others(tmp_path: Path) -> None:
    np.savez(tmp_path / "hall.npz", camera=pictures()[:, 0], y=np.arange(SAMPLES) % 2)
    check = check_source(DataSource(name="arrays", path=str(tmp_path / "hall.npz"), split="time"))
    assert [problem.kind for problem in check.errors] == ["split"]
    assert "it has no `time`" in check.errors[0].message
    assert check.to_dict()["contents"] is None
    sound = check_source(DataSource(name="arrays", path=str(tmp_path / "hall.npz"), class_weights="balanced"))
    assert sound.errors == ()
    assert sound.data is not None
    assert sound.data.balance


def test_readings_in_time_are_not_compared_and_the_reason_is_told() -> None:
    views = {
        "camera": pictures()[:, 0],
        "node": np.random.default_rng(0).integers(0, 256, (SAMPLES, 8, 2), dtype=np.uint8),
    }
    check = check_dataset(dataset(views=views))
    assert check.leak_share == 0
    assert list(check.not_compared) == ["node"]
    assert "repeat by nature" in check.not_compared["node"]
    alone = check_dataset(replace(dataset(views=views), codings={}).with_devices(["node"]))
    assert alone.leak_share is None
    assert alone.to_dict()["leaks"] is None


def test_json_holds_everything() -> None:
    images = pictures()
    images[96:108] = again(images[:12])
    presence = np.ones((SAMPLES, 2), bool)
    presence[50, 1] = False
    found = json.loads(json.dumps(check_dataset(dataset(images, presence=presence)).to_dict()))
    assert found["leak_share"] == 0.5
    assert found["problems"][0].keys() == {"kind", "severity", "message", "files"}
    assert found["problems"][0]["severity"] == "warning"
    assert found["contents"]["parts"]["train"] == {"empty": 40, "busy": 40}
    assert found["contents"]["views"]["device_1"] == {
        "input": [16, 16, 3],
        "original_sizes": None,
        "present": {"empty": 59, "busy": 60},
        "absent": 1,
        "without_contrast": 0,
    }
    assert found["leaks"]["by_class"] == {"empty": 0.5, "busy": 0.5}
    assert found["leaks"]["test_samples"] == list(range(96, 108))
    pair = next(pair for pair in found["leaks"]["pairs"] if pair["test"] == 97)
    assert pair["train"] == 1
    assert 0 < pair["difference"] < 0.1
    assert pair["files"]["device_0"] == ["device_0[97]", "device_0[1]"]


def test_progress_is_told() -> None:
    told: list[tuple[str, int, int]] = []
    check_dataset(dataset(), progress=lambda stage, done, total: told.append((stage, done, total)))
    assert told == [("reading", 120, 240), ("reading", 240, 240), ("comparing", 24, 24)]


def test_real_cameras(shared: Path) -> None:
    path = str(shared / "data" / "epfl_six_cameras.npz")
    at_random = check_source(DataSource(name="epfl", path=path, split="random"))
    assert at_random.leaks is not None
    assert at_random.leaks.lookup_accuracy() > 0.98 > at_random.leaks.lookup_accuracy(balanced=True)
    assert {"leak", "near_in_time", "unbalanced"} <= warnings(at_random).keys()
    by_time = warnings(check_source(DataSource(name="epfl", path=path, split="time")))
    assert "near_in_time" not in by_time
    assert "such as parked cars" in by_time["leak"].message


def test_objects_of_eth80_are_kept_apart(shared: Path) -> None:
    check = check_source(DataSource(name="eth80", path=str(shared / "data" / "eth80_32.npz")))
    assert check.errors == check.warnings == ()
    assert check.leak_share == 0
    assert check.shared_groups == 0


def test_scenes_share_tracks_if_split_at_random() -> None:
    at_random = check_source(DataSource(name="scenes"))
    assert warnings(at_random).keys() == {"shared_group"}
    assert check_source(DataSource(name="scenes", split="track")).warnings == ()
