from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddnn_tf.datasets import DataSource, fitting_topology, load_arrays


def arrays(**changes: Any) -> dict[str, Any]:
    """A camera, a microphone and an air sensor; a change of None leaves an array out."""
    random = np.random.default_rng(0)
    given = {
        "roof-camera": random.integers(0, 256, (90, 8, 8, 3), dtype=np.uint8),
        "y": np.arange(90) % 3,
        "air": random.normal(size=(90, 2)).astype(np.float32),
        "microphone": random.normal(size=(90, 16, 1)).astype(np.float32),
        "classes": np.array(["empty", "one", "many"]),
    }
    return {key: array for key, array in {**given, **changes}.items() if array is not None}


def write(path: Path, **changes: Any) -> Path:
    np.savez(path / "hall.npz", **arrays(**changes))
    return path / "hall.npz"


def test_devices_in_the_order_of_the_file(tmp_path: Path) -> None:
    data = load_arrays(write(tmp_path))
    assert data.shapes == {"roof_camera": (8, 8, 3), "air": (2,), "microphone": (16, 1)}
    assert data.class_names == ("empty", "one", "many")
    assert set(data.codings) == {"air", "microphone"}
    assert data.presence.all()
    assert np.array_equal(data.views["roof_camera"], arrays()["roof-camera"])
    data.check_fit(fitting_topology(data))


def test_what_is_known_of_the_samples_splits_them(tmp_path: Path) -> None:
    file = write(tmp_path, group=np.arange(90) // 6, time=np.arange(90.0))
    source = DataSource(name="arrays", path=str(file), split="time", test_share=0.5)
    data = source.load()
    assert data.split_rule.startswith("by time")
    assert len(data.split["test"]) == 44  # half of them, but for a gap
    assert load_arrays(file).split_rule.startswith("by group")
    assert len(DataSource(name="arrays", path=str(file), devices=1).load().views) == 1


def test_nan_may_stand_where_a_view_is_absent(tmp_path: Path) -> None:
    present = np.ones((90, 3), bool)
    present[5, 1] = False
    air = arrays()["air"].copy()
    air[5] = np.nan
    data = load_arrays(write(tmp_path, air=air, present=present))
    assert not data.views["air"][5].any()
    with pytest.raises(ValueError, match=r"'air' holds NaN or infinity in sample 5: .*`present`"):
        load_arrays(write(tmp_path, air=air))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y": None}, "no key 'y' "),
        ({"roof-camera": None, "air": None, "microphone": None}, "has no device"),
        ({"y": np.arange(90) / 2}, r"'y' is \(90,\) float64, expected \(90,\) integers"),
        ({"y": np.array(3)}, "'y' is .* expected"),
        ({"y": np.zeros(0, int)}, "holds no samples"),
        ({"y": np.full(90, 3)}, "'y' ranges from 3 to 3, expected 0 to 2"),
        ({"classes": np.array(["a", "a", "b"])}, "'classes' is .* expected different names"),
        ({"air": np.zeros((89, 2), np.float32)}, r"'air' is \(89, 2\) float32, expected \(90, "),
        ({"air": np.zeros((90, 2), np.int64)}, "'air' is .* int64, expected .* uint8 codes or float32"),
        ({"air": np.zeros(90, np.float32)}, r"'air' is \(90,\)"),
        ({"air": np.zeros((90, 0), np.float32)}, r"'air' is \(90, 0\)"),
        ({"present": np.ones((90, 2), bool)}, r"'present' is .* expected \(90, 3\) bool"),
        ({"group": np.zeros(90)}, "'group' is .* float64"),
        ({"time": np.where(np.arange(90) == 7, np.nan, 1)}, "'time' holds NaN"),
        ({"part": np.full(90, "exam")}, "out of train, validation, test, but got 'exam'"),
        ({"part": np.full(90, "train")}, "test part of 'arrays' has no sample of the class 'empty'"),
        ({"roof_camera": arrays()["air"]}, "'roof-camera' and 'roof_camera' would both be called"),
    ],
)
def test_wrong_content_names_the_key(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_arrays(write(tmp_path, **changes))


def test_the_file_is_to_be_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"--path FILE\.npz"):
        DataSource(name="arrays").load()
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npz"):
        load_arrays(tmp_path / "nowhere.npz")
    (tmp_path / "text.npz").write_text("no arrays")
    with pytest.raises(ValueError, match=r"text\.npz' is not an NPZ file"):
        load_arrays(tmp_path / "text.npz")


def test_a_single_array_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "hall.npy", np.zeros((90, 2), np.float32))
    with pytest.raises(ValueError, match=r"hall\.npy' is a single array, not an NPZ file with y\."):
        load_arrays(tmp_path / "hall.npy")


def test_a_device_without_any_reading_is_named(tmp_path: Path) -> None:
    present = np.ones((90, 3), bool)
    present[:, 1] = False
    with pytest.raises(ValueError, match=r"'air' has no readings among the training samples.*: leave it out"):
        load_arrays(write(tmp_path, present=present))
