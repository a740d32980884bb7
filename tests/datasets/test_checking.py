"""What `check_dataset` finds wrong with data."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ddnn_tf.datasets import DataSource, MultiViewDataset
from ddnn_tf.datasets.checking import DataCheck, check_dataset, check_source
from ddnn_tf.datasets.multiview import camera_views
from ddnn_tf.datasets.recording import Problem, Recording

SAMPLES = 120


def pictures(samples: int = SAMPLES, devices: int = 2) -> NDArray[np.uint8]:
    coarse = np.random.default_rng(0).integers(0, 256, (samples, devices, 4, 4, 3), dtype=np.uint8)
    return coarse.repeat(4, axis=2).repeat(4, axis=3)


def again(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same scenes a moment later: the camera's noise is another."""
    return images ^ np.random.default_rng(1).integers(0, 4, images.shape, dtype=np.uint8)


def dataset(images: NDArray[np.uint8] | None = None, **changes: Any) -> MultiViewDataset:
    """A data set that has nothing wrong, but for what is changed."""
    views = camera_views(pictures() if images is None else images)
    samples = len(next(iter(views.values())))
    whole: dict[str, Any] = {
        "name": "hall",
        "views": views,
        "labels": np.arange(samples) % 2,
        "presence": np.ones((samples, len(views)), bool),
        "class_names": ("empty", "busy"),
        "split": {
            "train": np.arange(80),
            "validation": np.arange(80, 96),
            "test": np.arange(96, samples),
        },
        "split_rule": "in order",
    }
    return MultiViewDataset(**{**whole, **changes})


def warnings(check: DataCheck) -> dict[str, Problem]:
    return {problem.kind: problem for problem in check.warnings}


def only_warning(data: MultiViewDataset) -> Problem:
    check = check_dataset(data)
    assert check.errors == ()
    assert len(check.warnings) == 1, check.warnings
    return check.warnings[0]


def test_sound_data_have_no_problems() -> None:
    check = check_dataset(dataset())
    assert check.errors == check.warnings == ()
    assert check.leak_share == 0
    assert check.shared_groups is None
    assert check.not_compared == {}


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


def test_classes_missing_from_a_part() -> None:
    labels = np.arange(SAMPLES) % 2
    labels[96:] = 0
    check = check_dataset(dataset(labels=labels))
    assert [problem.kind for problem in check.errors] == ["missing_class"]
    assert "The test part has no sample of the class 'busy'" in check.errors[0].message
    labels = np.arange(SAMPLES) % 2
    labels[80:96] = 0
    problem = only_warning(dataset(labels=labels))
    assert "The validation part has no sample of the class 'busy'" in problem.message


def test_rare_classes() -> None:
    labels = np.zeros(SAMPLES, np.int64)
    labels[[0, 1, 2, 3, 85, 97, 98]] = 1
    check = check_dataset(dataset(labels=labels))
    messages = [problem.message for problem in check.warnings]
    assert "The class 'busy' has 4 training samples" in messages[0]
    assert "The class 'busy' has 2 test samples, so each counts for 50 % of its recall" in messages[1]
    assert "The class 'empty' has 19 times as many training samples as 'busy'" in messages[2]
    assert "--class-weights balanced" in messages[2]
    assert "unbalanced" not in warnings(check_dataset(dataset(labels=labels, balance=True)))


def test_a_device_that_never_sees_a_training_sample() -> None:
    presence = np.ones((SAMPLES, 2), bool)
    presence[:80, 1] = False
    check = check_dataset(dataset(presence=presence))
    assert "'device_1' has no view of any training sample" in check.errors[0].message


def test_samples_that_no_device_sees() -> None:
    presence = np.ones((SAMPLES, 2), bool)
    presence[[4, 9]] = False
    problem = only_warning(dataset(presence=presence))
    assert "No device sees anything of 2 samples" in problem.message
    assert problem.files == ("sample 4", "sample 9")


def test_devices_out_of_step() -> None:
    presence = np.ones((SAMPLES, 2), bool)
    presence[:70, 1] = False
    kinds = [problem.message for problem in check_dataset(dataset(presence=presence)).warnings]
    assert kinds == [
        "70 of the 120 samples of 'device_0' are of no other device: the views of one sample must have the "
        "same name or time on every device."
    ]


def test_constant_channels() -> None:
    images = pictures()
    images[..., 1] = 7
    first = check_dataset(dataset(images)).warnings[0]
    assert first.message.startswith("Channel 1 of 'device_0' is 7 in every training sample")
    images[..., 2] = 0
    first = check_dataset(dataset(images)).warnings[0]
    assert first.message.startswith("2 of the 3 channels of 'device_0' are constant (channel 1 is 7)")


def test_absent_views_do_not_make_a_channel_vary() -> None:
    images, presence = pictures(), np.ones((SAMPLES, 2), bool)
    images[..., 1] = 7
    presence[:10, 0] = False
    images[:10, 0] = 0
    kinds = [problem.kind for problem in check_dataset(dataset(images, presence=presence)).warnings]
    assert kinds == ["constant_channel", "constant_channel"]


def test_pictures_of_one_colour_that_are_not_marked_as_absent() -> None:
    images = pictures()
    images[5, 1] = (0, 40, 0)
    problem = only_warning(dataset(images))
    assert problem.message.startswith("'device_1' has 1 picture of a single colour")
    assert problem.files == ("device_1[5]",)


def test_duplicate_files_and_labels_that_disagree() -> None:
    images = pictures()
    images[10, 0], images[12, 0] = images[2, 0], images[2, 0]
    images[7, 1] = images[8, 1]
    files = {
        f"device_{device}": np.array([f"{device}/{row}.png" for row in range(SAMPLES)]) for device in (0, 1)
    }
    check = check_dataset(dataset(images, files=files))
    assert [problem.kind for problem in check.warnings] == ["duplicate", "duplicate", "labels"]
    assert "3 pictures of 'device_0' are copies of each other (1 different)" in check.warnings[0].message
    assert check.warnings[0].files == ("0/2.png", "0/10.png", "0/12.png")
    assert check.warnings[2].files == ("1/7.png", "1/8.png")
    assert check.warnings[2].message.startswith("2 pictures of 'device_1' are copies with different labels")


def test_without_files_whole_samples_are_compared() -> None:
    images = pictures()
    images[10, 0] = images[2, 0]
    assert check_dataset(dataset(images)).warnings == ()
    images[10] = images[2]
    problem = only_warning(dataset(images))
    assert problem.kind == "duplicate"
    assert problem.message.startswith("2 samples are copies of each other")


def test_one_picture_for_two_devices() -> None:
    images = pictures()
    images[3, 1] = images[3, 0]
    problem = only_warning(dataset(images))
    assert problem.message.startswith("'device_0' and 'device_1' have the very same picture in 1 sample")
    assert problem.files == ("device_0[3]", "device_1[3]")


def test_many_files_are_counted_and_the_first_are_named() -> None:
    images = pictures(300)
    images[:250, 1] = 9
    split = {"train": np.arange(80), "validation": np.arange(80, 96), "test": np.arange(96, 300)}
    problem = warnings(check_dataset(dataset(images, split=split)))["single_colour"]
    assert "250 pictures" in problem.message
    assert len(problem.files) == 100


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
