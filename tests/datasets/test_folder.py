from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_data import write_pictures

from ddnn_tf.datasets import DataSource, PictureSize, fitting_topology, load_folder
from ddnn_tf.datasets.folder import read_folder


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    write_pictures(tmp_path / "pictures")
    return tmp_path / "pictures"


def manifest(pictures: Path, **columns: list[str]) -> list[dict[str, str]]:
    """The lines of a CSV file that lists the pictures."""
    files = sorted(pictures.rglob("*.png"))
    return [
        {
            "sample": file.stem,
            "device": file.parts[-3],
            "path": str(file.relative_to(pictures)),
            "label": file.parts[-2],
            **{name: cells[int(file.stem)] for name, cells in columns.items()},
        }
        for file in files
    ]


def write(pictures: Path, lines: list[dict[str, str]]) -> Path:
    file = pictures / "pictures.csv"
    file.write_text("\n".join([",".join(lines[0]), *(",".join(line.values()) for line in lines)]) + "\n")
    return file


def test_devices_classes_and_absent_views(pictures: Path) -> None:
    data = load_folder(pictures)
    assert data.shapes == dict.fromkeys(("door", "gate", "roof"), (32, 32, 3))
    assert data.class_names == ("bus", "car", "person")
    assert data.labels.tolist() == [sample % 3 for sample in range(60)]
    absent = np.arange(60) % 5 == 0
    assert np.array_equal(~data.presence[:, 0], absent)
    assert data.presence[:, 1:].all()
    assert not data.views["door"][absent].any()
    assert data.files["gate"][7] == "gate/car/007.png"
    assert data.files["door"][5] == ""
    assert set(data.with_devices(["roof"]).files) == {"roof"}
    for part in data.split:
        assert set(data.targets(part)) == {0, 1, 2}
    data.check_fit(fitting_topology(data))


def test_sizes_of_all_or_of_one_device(pictures: Path) -> None:
    source = DataSource(
        name="folder",
        path=str(pictures),
        sizes=(PictureSize(width=30, height=24), PictureSize(device="roof", width=10, height=16)),
        channels="grey",
    )
    data = DataSource.model_validate_json(source.model_dump_json()).load()
    assert data.shapes == {"door": (24, 30, 1), "gate": (24, 30, 1), "roof": (16, 10, 1)}
    # The picture is 30x24: 10x8 in the middle of 10x16.
    assert not data.views["roof"][:, :4].any()
    assert data.views["roof"][:, 4:12].all(axis=(1, 2, 3)).any()
    stretched = load_folder(pictures, sizes={"roof": (10, 16)}, fit="stretch")
    assert stretched.views["roof"][:, :4].any()
    with pytest.raises(ValueError, match="a size of door, gate, roof, but got 'window'"):
        load_folder(pictures, sizes={"window": (8, 8)})


def test_names_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    names = tuple(f"cam-{number}" for number in (10, 2, 1))
    write_pictures(tmp_path, devices=names)
    data = load_folder(tmp_path)
    assert data.device_names == ("cam_1", "cam_2", "cam_10")
    assert DataSource(name="folder", path=str(tmp_path), devices=2).load().device_names == ("cam_1", "cam_2")
    with pytest.raises(ValueError, match="Expected 4 devices, but 'folder' has 3: cam_1, cam_2, cam_10"):
        DataSource(name="folder", path=str(tmp_path), devices=4).load()


def test_every_class_may_count_by_itself(pictures: Path) -> None:
    expected = load_folder(pictures)
    for device in pictures.iterdir():
        for label in device.iterdir():
            for file in label.iterdir():
                file.rename(label / f"{int(file.stem) // 3}.png")
    data = load_folder(pictures)
    assert len(data.labels) == 60
    assert np.bincount(data.labels).tolist() == [20, 20, 20]
    assert np.array_equal(
        data.views["gate"], expected.views["gate"][np.argsort(expected.labels, kind="stable")]
    )


def test_hidden_files_and_files_beside_the_devices_are_left_alone(pictures: Path) -> None:
    before = load_folder(pictures).digest()
    (pictures / "README.txt").write_text("my pictures")
    (pictures / ".cache").mkdir()
    (pictures / "gate" / "bus" / ".DS_Store").write_text("")
    (pictures / "gate" / "bus" / "Thumbs.db").write_text("")
    assert load_folder(pictures).digest() == before


def test_a_manifest_gives_what_folders_cannot(pictures: Path) -> None:
    groups = [f"day {sample // 6}" for sample in range(60)]
    times = [f"2026-03-01 10:{sample:02}:00" for sample in range(60)]
    file = write(pictures, manifest(pictures, group=groups, time=times))
    data = load_folder(file)
    assert data.digest() != load_folder(pictures).digest()
    assert data.split_rule.startswith("by group")
    assert np.array_equal(data.views["roof"], load_folder(pictures).views["roof"])
    assert load_folder(file, split="time").split["train"].max() < 45
    part = ["train"] * 40 + ["test"] * 20
    given = load_folder(write(pictures, manifest(pictures, part=part)))
    assert given.split["test"].tolist() == list(range(40, 60))


def test_an_empty_path_is_an_absent_view(pictures: Path) -> None:
    lines = manifest(pictures)
    lines[0]["path"] = ""
    data = load_folder(write(pictures, lines))
    assert data.presence.sum() == len(lines) - 1


def spell(pictures: Path) -> None:
    (pictures / "gate" / "car").rename(pictures / "gate" / "Cars")


def disagree(pictures: Path) -> None:
    (pictures / "gate" / "car" / "001.png").rename(pictures / "gate" / "bus" / "001.png")


def double(pictures: Path) -> None:
    shutil.copy(pictures / "gate" / "car" / "001.png", pictures / "gate" / "bus" / "001.png")


def convert(pictures: Path) -> None:
    file = pictures / "gate" / "car" / "001.png"
    Image.open(file).save(file.with_suffix(".bmp"))


def empty_device(pictures: Path) -> None:
    for device in ("door", "roof"):
        shutil.rmtree(pictures / device)
    (pictures / "roof").mkdir()


def zero_bytes(pictures: Path) -> None:
    (pictures / "gate" / "car" / "001.png").write_bytes(b"")


def text(pictures: Path) -> None:
    (pictures / "gate" / "car" / "001.png").write_text("no picture")


def other_file(pictures: Path) -> None:
    (pictures / "gate" / "car" / "001.heic").write_text("a picture of a kind that is not read")


def grey(pictures: Path) -> None:
    file = pictures / "gate" / "car" / "001.png"
    Image.open(file).convert("L").save(file)


def deep(pictures: Path) -> None:
    (pictures / "gate" / "car" / "night").mkdir()


def link(pictures: Path) -> None:
    outside = pictures.parent / "outside.png"
    (pictures / "gate" / "car" / "001.png").rename(outside)
    (pictures / "gate" / "car" / "001.png").symlink_to(outside)


def no_classes(pictures: Path) -> None:
    (pictures / "gate" / "car" / "001.png").rename(pictures / "gate" / "001.png")


def few(pictures: Path) -> None:
    for device in pictures.iterdir():
        for file in sorted((device / "bus").iterdir())[1:]:
            file.unlink()


def nothing(pictures: Path) -> None:
    shutil.rmtree(pictures)
    pictures.mkdir()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (spell, r"class folders 'car' \(door, roof\) and 'Cars' \(gate\) look like one class spelled"),
        (
            disagree,
            "disagree on the label of sample '001': 'door' says 'car' .*'door/car/001.png'.*'gate' 'bus'",
        ),
        (double, "label of sample '001': .*1 more"),
        (convert, "device 'gate' has two pictures of sample '001'"),
        (empty_device, r"device folder '.*roof' holds no pictures: fill or remove it"),
        (zero_bytes, r"gate/car/001.png' cannot be read \(the file is empty\): .*--skip-unreadable"),
        (text, r"gate/car/001.png' cannot be read \(it is no picture"),
        (other_file, r"gate/car/001.heic' is no picture \(.png, .*--skip-unreadable"),
        (grey, r"pictures of 'gate' are grey \('gate/car/001.png'\) and colour .*--channels grey"),
        (deep, r"night' is a folder inside a class folder"),
        (link, r"gate/car/001.png' is a link that leaves the folder: copy the file into it"),
        (
            no_classes,
            r"gate/001.png' is a picture that stands in no class folder: expected FOLDER/<device>/<class>",
        ),
        (few, r"train part of 'folder' has no sample of the class 'bus' \(2 samples in all\)"),
        (nothing, r"holds no pictures: expected FOLDER/<device>/<class>/<sample>.png"),
    ],
)
def test_what_is_wrong_with_a_folder(pictures: Path, change: object, message: str) -> None:
    change(pictures)  # type: ignore[operator]
    with pytest.raises(ValueError, match=message) as caught:
        load_folder(pictures)
    assert "\n" not in str(caught.value)


def test_all_problems_are_there_with_what_can_be_used(pictures: Path) -> None:
    disagree(pictures)
    other_file(pictures)
    (pictures / "roof" / "bus" / "003.png").write_text("no picture")
    grey_file = pictures / "gate" / "person" / "002.png"
    Image.open(grey_file).convert("L").save(grey_file)
    recording = read_folder(pictures)
    assert {problem.kind for problem in recording.problems} == {"unreadable", "labels", "channels"}
    named = {file for problem in recording.problems for file in problem.files}
    assert {"gate/bus/001.png", "roof/bus/003.png", "gate/car/001.heic"} <= named
    assert len(recording.labels) == 59
    row = list(recording.files["gate"]).index("gate/bus/003.png")
    assert not recording.presence[row, 2]
    with pytest.raises(ValueError, match=r"\(\d more: `ddnn data check` lists all problems"):
        recording.check()


def test_unreadable_pictures_are_skipped_and_counted(pictures: Path) -> None:
    text(pictures)
    other_file(pictures)
    source = DataSource(name="folder", path=str(pictures), skip_unreadable=True)
    with pytest.warns(UserWarning, match="2 pictures cannot be read and were skipped, the first is '.*001"):
        data = source.load()
    assert data.skipped == 2
    assert not data.presence[1, 1]
    with pytest.warns(UserWarning, match="skipped"):
        assert data.digest() == source.load().digest()
    for file in pictures.rglob("*.png"):
        file.write_bytes(b"")
    with pytest.raises(ValueError, match="holds no picture that can be read"):
        load_folder(pictures, skip_unreadable=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path": "../outside.png"}, r"line 2: the path '../outside.png' leads out of the folder"),
        ({"path": "/etc/passwd"}, r"line 2: the path '/etc/passwd' leads out of the folder"),
        ({"path": "gate/none.png"}, r"line 2: there is no file 'gate/none.png'"),
        ({"device": ""}, r"line 2: the column 'device' is empty"),
        ({"label": "lorry"}, r"disagree on the label of sample"),
        ({"time": "noon"}, r"disagree on the time of sample"),
        ({"device": "roof"}, r"device 'roof' has two pictures of sample"),
    ],
)
def test_what_is_wrong_with_a_manifest(pictures: Path, change: dict[str, str], message: str) -> None:
    (pictures.parent / "outside.png").write_bytes((pictures / "gate" / "car" / "001.png").read_bytes())
    lines = manifest(pictures, time=[str(sample) for sample in range(60)])
    lines[0] |= change
    with pytest.raises(ValueError, match=message):
        load_folder(write(pictures, lines))


def test_columns_that_a_manifest_lacks(pictures: Path) -> None:
    for column in ("sample", "device", "path", "label"):
        lines = [{key: cell for key, cell in line.items() if key != column} for line in manifest(pictures)]
        with pytest.raises(ValueError, match=rf"pictures\.csv' has no column '{column}'"):
            load_folder(write(pictures, lines))
    groups = ["a"] * 30 + [""] * 30
    with pytest.raises(ValueError, match="sample '030' has no group: give all of them one, or none"):
        load_folder(write(pictures, manifest(pictures, group=groups)))
    times = ["5"] * 30 + ["noon"] * 30
    with pytest.raises(ValueError, match=r"line \d+: the column 'time' holds 'noon', which is no number"):
        load_folder(write(pictures, manifest(pictures, time=times)))


def test_the_place_is_to_be_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--path FOLDER"):
        DataSource(name="folder").load()
    with pytest.raises(FileNotFoundError, match=r"no folder '.*nowhere'"):
        load_folder(tmp_path / "nowhere")
