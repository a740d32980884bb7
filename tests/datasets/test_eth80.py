from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ddnn_tf.datasets import MultiViewDataset, load_eth80

AZIMUTHS = [0, 22, 45, 68, 90, 112, 135, 158, 180, 202, 225, 248, 270, 292, 315, 338]


def stacked(data: MultiViewDataset) -> np.ndarray:
    """All views, `(samples, devices, height, width, channels)`."""
    return np.stack(list(data.views.values()), axis=1)


def write(path: Path, **changes: np.ndarray) -> Path:
    """Two classes of five objects; the first pixel holds object and view."""
    views = np.array([(90, azimuth) for azimuth in reversed(AZIMUTHS)] + [(0, 0), (45, 90)])
    images = np.zeros((2, 5, len(views), 8, 8, 3), np.uint8)
    images[..., 0, 0, 0] = np.arange(10).reshape(2, 5, 1)
    images[..., 0, 0, 1] = views[:, 1] // 2
    content = {"X": images, "classes": np.array(["apple", "cow"]), "views": views, **changes}
    np.savez(path, **content)
    return path


def test_six_cameras_stand_around_each_object(tmp_path: Path) -> None:
    data = load_eth80(write(tmp_path / "eth.npz"))
    assert data.device_names == tuple(f"device_{number}" for number in range(6))
    images = stacked(data)
    assert images.shape == (2 * 5 * 16, 6, 8, 8, 3)
    assert data.class_names == ("apple", "cow")
    # All six views of a sample show one object.
    objects = images[..., 0, 0, 0]
    assert (objects == objects[:, :1]).all()
    assert np.array_equal(objects[:, 0], data.instances)
    assert np.array_equal(data.labels, objects[:, 0] // 5)
    # The first sample of an object has camera 0 at azimuth 0, the others 60 degrees apart or nearly.
    degrees = images[0, :, 0, 0, 1].astype(int) * 2
    assert np.abs(degrees - np.arange(6) * 60).max() <= 15
    # The object turns: camera 0 sees all 16 azimuths.
    assert len(np.unique(images[:16, 0, 0, 0, 1])) == 16


def test_test_objects_are_never_trained_on(tmp_path: Path) -> None:
    data = load_eth80(write(tmp_path / "eth.npz"), seed=4)
    parts = [set(data.instances[chosen]) for chosen in data.split.values()]  # type: ignore[index]
    assert [len(part) for part in parts] == [6, 2, 2]
    assert len(set.union(*parts)) == 10


@pytest.mark.parametrize("devices", [1, 16])
def test_any_number_of_cameras(tmp_path: Path, devices: int) -> None:
    data = load_eth80(write(tmp_path / "eth.npz"), devices=devices)
    assert len(data.device_names) == devices
    assert len(np.unique(stacked(data)[0, :, 0, 0, 1])) == devices


def test_the_real_file(shared: Path) -> None:
    data = load_eth80(shared / "data" / "eth80_32.npz")
    assert stacked(data).shape == (1280, 6, 32, 32, 3)
    assert {part: len(chosen) for part, chosen in data.split.items()} == {
        "train": 896,
        "validation": 128,
        "test": 256,
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"X": np.zeros((2, 5, 18, 8, 8, 3))}, "key 'X'"),
        ({"classes": np.array(["one"])}, "key 'classes'"),
        ({"views": np.zeros((3, 2), int)}, "key 'views'"),
        ({"views": np.zeros((18, 2), int)}, "no view at elevation 90"),
    ],
)
def test_wrong_content_names_the_key(tmp_path: Path, changes: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_eth80(write(tmp_path / "eth.npz", **changes))


def test_missing_file_and_too_many_cameras(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="--path"):
        load_eth80(tmp_path / "none.npz")
    with pytest.raises(ValueError, match="between 1 and 16"):
        load_eth80(write(tmp_path / "eth.npz"), devices=17)
