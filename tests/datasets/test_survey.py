"""What is wrong with single views."""

from __future__ import annotations

import numpy as np
from hall import SAMPLES, dataset, only_warning, pictures, warnings

from ddnn_tf.datasets.checking import check_dataset


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
