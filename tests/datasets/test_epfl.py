from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_data import write_epfl

from ddnn_tf.datasets import DataSource, load_dataset, load_epfl


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("epfl") / "epfl_six_cameras.npz"
    write_epfl(file)
    return file


def test_absent_views_are_black_and_marked(file: Path) -> None:
    data = load_epfl(file)
    assert data.shapes == dict.fromkeys([f"device_{number}" for number in range(6)], (32, 32, 3))
    assert data.presence.mean() == 0.5
    for number, view in enumerate(data.views.values()):
        assert not view[~data.presence[:, number]].any()
        assert view[data.presence[:, number]].any(axis=(1, 2, 3)).all()
    assert not data.balance


def test_the_split_by_time_has_gaps(file: Path) -> None:
    data = load_epfl(file, split="time")
    frames = [rows + 1 for rows in data.split.values()]
    assert [(part.min(), part.max()) for part in frames] == [(1, 150), (156, 180), (186, 242)]


@pytest.mark.parametrize(("split", "validation", "test"), [("part", 3, 4), ("holdout", 4, 3)])
def test_the_parts_of_the_file(file: Path, split: str, validation: int, test: int) -> None:
    data = load_epfl(file, split=split)
    frames = [(rows + 1) % 5 for rows in data.split.values()]
    assert [set(part) for part in frames] == [{0, 1, 2}, {validation}, {test}]
    assert f"its {'holdout' if split == 'part' else 'test'} for validation" in data.split_rule


def test_at_random_every_part_has_every_class(file: Path) -> None:
    data = load_dataset("epfl", path=str(file), devices=3, seed=4)
    assert len(data.device_names) == 3
    for part in ("train", "validation", "test"):
        assert set(data.targets(part)) == {0, 1, 2}
    assert "seed 4" in data.split_rule


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X": np.zeros((242, 6, 32, 32))}, r"'X' is \(242, 6, 32, 32\) float64"),
        ({"y": np.full(242, 3)}, "'y' ranges from 3 to 3, expected 0 to 2"),
        ({"frame": np.zeros(3, int)}, r"'frame' is \(3,\) int64, expected \(242,\) integers"),
        ({"present": np.ones((242, 6), int)}, "'present' is .* expected .* bool"),
        ({"part": np.full(242, "exam")}, "'part' holds 'exam', expected train, holdout, test"),
        ({"classes": np.arange(3)}, "'classes' is .* expected names"),
    ],
)
def test_wrong_content_names_the_key(
    file: Path, tmp_path: Path, change: dict[str, np.ndarray], message: str
) -> None:
    with np.load(file) as arrays:
        np.savez(tmp_path / "wrong.npz", **{**arrays, **change})
    with pytest.raises(ValueError, match=message):
        load_epfl(tmp_path / "wrong.npz")


def test_where_the_file_is_looked_for(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DDNN_DATA", str(file.parent))
    assert len(DataSource(name="epfl", split="time").load().labels) == 242
    monkeypatch.setenv("DDNN_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"epfl_six_cameras\.npz.*--path.*DDNN_DATA"):
        load_epfl()
    with pytest.raises(ValueError, match="one of random, time, part, holdout, but got 'track'"):
        load_epfl(file, split="track")


def test_the_real_file(shared: Path) -> None:
    data = load_epfl(shared / "data" / "epfl_six_cameras.npz", split="time")
    counts = [np.bincount(data.targets(part), minlength=3).tolist() for part in data.split]
    assert counts == [[620, 3, 180], [102, 0, 67], [236, 7, 98]]
