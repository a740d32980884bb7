from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_data import write_pictures

from ddnn_tf.datasets.folder import load_folder
from ddnn_tf.datasets.multiview import MultiViewDataset
from ddnn_tf.datasets.stored import StoredView
from ddnn_tf.network import build
from ddnn_tf.topology import Cloud, Devices, Topology
from ddnn_tf.training import TrainingOptions, train


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pictures of three devices, and a cache of their own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_pictures(tmp_path / "pictures")
    return tmp_path / "pictures"


def stored(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> MultiViewDataset:
    with monkeypatch.context() as patch:
        patch.setenv("DDNN_MEMORY_MB", "0")
        return load_folder(pictures)


def decoded_times(pictures: Path) -> list[int]:
    return sorted(file.stat().st_mtime_ns for file in (pictures.parent / "cache").rglob("*.npy"))


def test_views_beyond_the_budget_are_on_disk_and_the_same(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, outside = load_folder(pictures), stored(pictures, monkeypatch)
    assert all(isinstance(view, np.ndarray) for view in inside.views.values())
    assert all(isinstance(view, StoredView) for view in outside.views.values())
    assert outside.digest() == inside.digest()
    assert {device: names.tolist() for device, names in outside.files.items()} == {
        device: names.tolist() for device, names in inside.files.items()
    }


def test_pictures_are_decoded_once_as_long_as_no_file_changes(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = stored(pictures, monkeypatch)
    before = decoded_times(pictures)
    assert len(before) == 3
    assert stored(pictures, monkeypatch).digest() == first.digest()
    assert decoded_times(pictures) == before
    changed = next(pictures.rglob("*.png"))
    other = next(file for file in pictures.rglob("*.png") if file.read_bytes() != changed.read_bytes())
    changed.write_bytes(other.read_bytes())
    assert stored(pictures, monkeypatch).digest() != first.digest()
    assert len(decoded_times(pictures)) == 6


def test_what_cannot_be_read_is_remembered(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = next(pictures.rglob("*.png"))
    broken.write_bytes(b"no picture")
    for _ in range(2):
        with pytest.raises(ValueError, match=f"{broken.name}' cannot be read .*repair or remove it"):
            stored(pictures, monkeypatch)


def test_a_decoding_that_fails_leaves_nothing(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: StoredView, row: int, codes: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(StoredView, "__setitem__", fail)
        with pytest.raises(OSError, match=r"cache/ddnn_tf/pictures/\w+'.*no space left"):
            stored(pictures, monkeypatch)
    assert not [file for file in (pictures.parent / "cache").rglob("*") if file.is_file()]


@pytest.mark.parametrize("damage", ["cut_short", "no_outcome", "junk"])
def test_damaged_views_are_decoded_again(
    damage: str, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = stored(pictures, monkeypatch)
    view = min((pictures.parent / "cache").rglob("*.npy"))
    outcome = view.with_name("outcome.json")
    if damage == "cut_short":
        view.write_bytes(view.read_bytes()[:200])
    elif damage == "no_outcome":
        outcome.unlink()
    else:
        outcome.write_text("{", encoding="utf-8")
    assert stored(pictures, monkeypatch).digest() == first.digest()


def test_training_from_disk_gives_the_weights_of_training_from_memory(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = []
    for data in (load_folder(pictures), stored(pictures, monkeypatch)):
        groups = tuple(Devices(name=name, input=(32, 32, 3), filters=(2,)) for name in data.views)
        topology = Topology(devices=groups, cloud=Cloud(filters=(4,)), classes=3)
        model = build(topology)
        model.set_weights([np.random.default_rng(0).normal(size=each.shape) for each in model.get_weights()])
        train(model, data, options=TrainingOptions(epochs=2, batch_size=16), progress=False)
        weights.append(model.get_weights())
    for inside, outside in zip(*weights, strict=True):
        assert np.array_equal(inside, outside)
