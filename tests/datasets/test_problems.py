"""What is wrong with classes, devices and parts."""

from __future__ import annotations

import numpy as np
from hall import SAMPLES, dataset, only_warning, warnings

from ddnn_tf.datasets.checking import check_dataset
from ddnn_tf.datasets.problems import first_of_each_kind
from ddnn_tf.datasets.recording import Problem


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


def test_of_many_problems_of_one_kind_the_first_stand_for_all() -> None:
    problems = [Problem("unreadable", str(number)) for number in range(9)]
    problems.insert(1, Problem("labels", "x"))
    listed = [(problem.message, further) for problem, further in first_of_each_kind(problems, 3)]
    assert listed == [("0", 0), ("x", 0), ("1", 0), ("2", 6)]
    assert [further for _, further in first_of_each_kind(problems[:4], 3)] == [0, 0, 0, 0]
