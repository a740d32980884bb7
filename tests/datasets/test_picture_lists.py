from __future__ import annotations

from pathlib import Path

import pytest

from ddnn_tf.datasets.picture_lists import in_order, read_manifest, scan_folder
from ddnn_tf.datasets.recording import Problem


def place(folder: Path, *files: str) -> list[Problem]:
    """Puts empty files into a folder, for what their names tell."""
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(b"")
    return []


def test_names_in_the_order_of_their_numbers() -> None:
    assert in_order(["cam10", "cam2", "2", "cam", "10", "cam2"]) == ["2", "10", "cam", "cam2", "cam10"]


def test_the_names_of_folders_and_files(tmp_path: Path) -> None:
    problems = place(tmp_path, "b/car/1.PNG", "a/bus/2.jpeg", "a/bus/.hidden.png", "notes.png", "a/notes.txt")
    pictures = scan_folder(tmp_path, problems)
    assert [(each.device, each.label, each.sample, each.file) for each in pictures] == [
        ("a", "bus", "2", "a/bus/2.jpeg"),
        ("b", "car", "1", "b/car/1.PNG"),
    ]
    assert problems == []


@pytest.mark.parametrize(
    ("cars", "busses", "names"),
    [
        # Each class counts from 1.
        ("1 2 3 4", "1 2", {"car/1", "car/2", "car/3", "car/4", "bus/1", "bus/2"}),
        # One of many stands in the wrong folder, too.
        ("1 2 3 4 5", "5 6 7 8", {"1", "2", "3", "4", "5", "6", "7", "8"}),
        ("1 2", "3 4", {"1", "2", "3", "4"}),
    ],
)
def test_samples_are_named_by_class_where_every_class_counts(
    tmp_path: Path, cars: str, busses: str, names: set[str]
) -> None:
    files = [
        *(f"a/car/{name}.png" for name in cars.split()),
        *(f"a/bus/{name}.png" for name in busses.split()),
    ]
    problems = place(tmp_path, *files)
    assert {picture.sample for picture in scan_folder(tmp_path, problems)} == names


@pytest.mark.parametrize(
    ("names", "is_one"),
    [
        (("car", "Car"), True),
        (("bus", "buses"), True),
        (("person", "preson"), True),
        (("traffic_light", "traffic light"), True),
        (("type_a", "type_b"), False),
        (("class_1", "class_2"), False),
        (("car", "bus"), False),
        (("open", "closed"), False),
    ],
)
def test_classes_that_are_spelled_in_two_ways(tmp_path: Path, names: tuple[str, str], is_one: bool) -> None:
    problems = place(tmp_path, f"a/{names[0]}/1.png", f"b/{names[1]}/1.png", f"c/{names[1]}/1.png")
    scan_folder(tmp_path, problems)
    assert [problem.kind for problem in problems] == ["class_folder"] * is_one
    # Where one device has both, they are two classes.
    place(tmp_path, f"a/{names[1]}/2.png")
    problems = []
    scan_folder(tmp_path, problems)
    assert problems == []


def test_a_manifest_lists_pictures(tmp_path: Path) -> None:
    problems = place(tmp_path, "a/1.png", "a/2.png")
    lines = [
        "sample,device,path,label,weather",
        "x,cam,a/1.png,car,rain",
        "y,cam,,car,sun",
        "z,,a/2.png,car,sun",
    ]
    (tmp_path / "list.csv").write_text("\n".join(lines))
    [picture] = read_manifest(tmp_path / "list.csv", problems)
    assert (picture.sample, picture.device, picture.label, picture.file, picture.line) == (
        "x", "cam", "car", "a/1.png", 2,
    )  # fmt: skip
    [problem] = problems
    assert "line 4: the column 'device' is empty" in problem.message
