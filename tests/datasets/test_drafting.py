from __future__ import annotations

from pathlib import Path

import pytest
from small_data import write_occupancy

from ddnn_tf.datasets import load_table
from ddnn_tf.datasets.drafting import draft_description
from ddnn_tf.datasets.table import TableDescription


def test_a_draft_can_be_loaded_as_it_is(tmp_path: Path) -> None:
    write_occupancy(tmp_path / "room.csv")
    file = tmp_path / "sub" / "room.yaml"
    description = draft_description(tmp_path / "room.csv", file)
    assert description.time == ("Date", "Time")
    assert list(description.devices) == ["S1", "S2", "S3", "S4", "S5", "S6", "S7"]
    assert description.devices["S5"] == ("S5_CO2", "S5_CO2_Slope")
    assert description.label == "Room_Occupancy_Count"
    assert description.classes == {"0": "0", "1": "1", "2": "2", "3": "3"}
    # Readings come every minute.
    assert description.longest_step == 240
    assert description.group is None
    assert description.block is not None
    assert description.file == "../room.csv"
    file.parent.mkdir()
    file.write_text(description.to_yaml())
    assert TableDescription.load(file) == description
    data = load_table(file)
    assert data.split_rule.startswith("by group")
    for part in data.split:
        assert set(data.targets(part)) == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n", "holds no readings"),
        ("a,b\n1.5,x\n2.5,x\n", "no column of 2 to 20 different values"),
        ("label,note\n1,a\n2,b\n", "no column of numbers besides 'label'"),
    ],
)
def test_what_cannot_be_drafted(tmp_path: Path, content: str, message: str) -> None:
    content += "".join(f"{number}.5,x\n" for number in range(30)) if "no column of 2" in message else ""
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(ValueError, match=message):
        draft_description(tmp_path / "t.csv")


def test_columns_without_common_names_are_one_device(tmp_path: Path) -> None:
    lines = [
        f"{line},{line * 0.1},{line * 0.2},{'on' if line % 2 else 'off'},{line // 10}" for line in range(100)
    ]
    (tmp_path / "t.csv").write_text("\n".join(["seconds,heat,light,state,session", *lines]))
    description = draft_description(tmp_path / "t.csv")
    assert description.time == "seconds"
    assert description.devices == {"sensors": ("heat", "light")}
    assert (description.label, description.group, description.block) == ("state", "session", None)


def test_occupancy_is_an_example(shared: Path, tmp_path: Path) -> None:
    description = draft_description(shared / "data" / "occupancy.csv")
    assert list(description.devices) == ["S1", "S2", "S3", "S4", "S5", "S6", "S7"]
    assert description.label == "Room_Occupancy_Count"
    file = tmp_path / "room.yaml"
    file.write_text(draft_description(shared / "data" / "occupancy.csv", file).to_yaml())
    data = load_table(file)
    assert data.shapes["S5"] == (16, 2)
    for part in data.split:
        assert set(data.targets(part)) == {0, 1, 2, 3}
