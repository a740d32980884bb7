from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ddnn_tf.datasets import Problem, Recording
from ddnn_tf.datasets.recording import device_names


@pytest.fixture
def recording() -> Recording:
    """120 moments of a camera and an air sensor that is absent from every tenth."""
    random = np.random.default_rng(0)
    presence = np.ones((120, 2), bool)
    presence[::10, 1] = False
    air = random.normal(400, 10, (120, 2)).astype(np.float32)
    air[~presence[:, 1]] = np.nan
    return Recording(
        name="hall",
        views={"camera": random.integers(0, 256, (120, 8, 8, 1), dtype=np.uint8), "air": air},
        labels=np.arange(120) % 3,
        presence=presence,
        class_names=("a", "b", "c"),
    )


def test_readings_are_coded_by_the_training_samples_that_have_them(recording: Recording) -> None:
    data = recording.split(seed=3)
    known = recording.views["air"][data.split["train"]]
    assert data.codings["air"].offset == pytest.approx(np.nanmin(known, axis=0))
    assert set(data.codings) == {"air"}
    assert data.views["air"].dtype == np.uint8
    assert not data.views["air"][~recording.presence[:, 1]].any()
    assert data.split_rule == "at random within each class, seed 3"
    assert [len(rows) for rows in data.split.values()] == [87, 9, 24]


def test_a_device_without_training_samples_is_refused(recording: Recording) -> None:
    data = recording.split()
    presence = recording.presence.copy()
    presence[data.split["train"], 1] = False
    with pytest.raises(ValueError, match="device 'air' has no readings among the training samples"):
        replace(recording, presence=presence).split()


def test_the_strictest_split_that_the_data_allow_is_the_default(recording: Recording) -> None:
    assert recording.split().split_rule.startswith("at random")
    timed = replace(recording, time=np.arange(120))
    assert timed.split().split_rule.startswith("by time")
    grouped = replace(timed, group=np.arange(120) // 6)
    data = grouped.split()
    assert data.split_rule == "by group (none stands in two parts), seed 0"
    assert data.instances is not None
    assert np.array_equal(data.instances, grouped.group)
    given = replace(grouped, part=np.repeat(["train", "test"], [90, 30]))
    data = given.split()
    assert data.split_rule == ("as the data say, validation by group (none stands in two parts), seed 0")
    assert not set(given.group[data.split["train"]]) & set(given.group[data.split["validation"]])  # type: ignore[index]
    assert grouped.split("random").split_rule.startswith("at random")


def test_splits_that_are_not_possible(recording: Recording) -> None:
    with pytest.raises(ValueError, match=r"out of random, but got 'time': it has no `time`"):
        recording.split("time")
    with pytest.raises(ValueError, match="at least two classes, but 'hall' has a only"):
        replace(recording, labels=np.zeros(120, np.int64), class_names=("a",)).split()
    with pytest.raises(ValueError, match="but got 'track': there is no such split"):
        recording.split("track")
    given = replace(recording, part=np.repeat(["train", "test"], [90, 30]))
    with pytest.raises(ValueError, match=r"no share of test samples for the split 'part'.* but got 0.3"):
        given.split("part", test_share=0.3)
    windows = replace(recording, time=np.arange(120), shares_readings=True)
    with pytest.raises(ValueError, match=r"out of time, but got 'random': its windows share readings"):
        windows.split("random")
    ordered = replace(recording, time=np.arange(120), labels=np.repeat([0, 1, 2], 40))
    with pytest.raises(ValueError, match="part of 'hall' has no sample of the class 'a'"):
        ordered.split()
    with pytest.raises(ValueError, match="class 'a' of 'hall' occurs in 1 groups"):
        replace(ordered, group=ordered.labels).split()


def test_the_first_devices(recording: Recording) -> None:
    assert recording.with_devices(None) is recording
    assert list(recording.with_devices(1).split().views) == ["camera"]
    with pytest.raises(ValueError, match="Expected 3 devices, but 'hall' has 2: camera, air"):
        recording.with_devices(3)


def test_problems_are_told_by_the_first(recording: Recording) -> None:
    recording.check()
    problems = (Problem("labels", "Sample '1' is odd."), Problem("labels", "Sample '2' is even."))
    with pytest.raises(ValueError, match=r"^Sample '1' is odd\.$"):
        replace(recording, problems=problems[:1]).check()
    with pytest.raises(ValueError, match=r"^Sample '1' is odd\. \(1 more: `ddnn data check` lists all"):
        replace(recording, problems=problems).check()


def test_names_of_devices_are_names_of_nodes() -> None:
    assert device_names(["cam-1", "cam_2", "3", "左", "右"]) == {
        "cam-1": "cam_1", "cam_2": "cam_2", "3": "device_3", "左": "device_at_3", "右": "device_at_4",
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"'cam-1' and 'cam\.1' would both be called 'cam_1'"):
        device_names(["cam-1", "cam.1"])
