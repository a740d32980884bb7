from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ddnn_tf.datasets import load_mvmc
from ddnn_tf.datasets.mvmc import git_blob_id


def arrays() -> dict[str, np.ndarray]:
    """A file of the form of MVMC; its pixels say which sample and camera they belong to."""
    labels = np.random.default_rng(0).integers(0, 3, 851)
    views = np.repeat(labels[:, None], 6, axis=1)
    views[np.random.default_rng(1).random((851, 6)) < 0.4] = 3
    views[:, 2] = labels
    images = np.zeros((851, 6, 3, 32, 32), np.float32)
    images[:, :, 0, 0, 0] = 1
    images[:, :, 1, 5, 7] = np.arange(6) / 255
    images[:, :, 2, :2, 0] = (np.arange(851) % 256)[:, None, None] / 255
    return {"X": images, "y": views.astype(np.int32)}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mvmc") / "MVMC.npz"
    np.savez_compressed(path, **arrays())
    return path


@pytest.mark.filterwarnings("ignore:.*is not the authors' file")
def test_reads_the_papers_form(file: Path) -> None:
    data = load_mvmc(file, seed=3)
    content = arrays()
    assert data.shapes == {f"device_{number}": (32, 32, 3) for number in range(6)}
    for number, view in enumerate(data.views.values()):
        assert (view[:, 5, 7, 1] == number).all()
    assert np.array_equal(data.views["device_0"][:, 1, 0, 2], np.arange(851) % 256)
    assert np.array_equal(data.presence, content["y"] != 3)
    assert np.array_equal(data.labels, np.where(content["y"] == 3, -1, content["y"]).max(1))
    assert len(data.split["test"]) == 171
    assert len(data.split["train"]) + len(data.split["validation"]) == 680


@pytest.mark.filterwarnings("ignore:.*is not the authors' file")
def test_authors_split(file: Path, shared: Path) -> None:
    order_file = shared / "reference" / "mvmc_author_split.json"
    order = json.loads(order_file.read_text())["order"]
    data = load_mvmc(file, split_file=order_file)
    assert data.split["test"].tolist() == order[680:]
    assert data.split["train"].tolist() + data.split["validation"].tolist() == order[:680]
    assert "mvmc_author_split.json" in data.split_rule


def test_another_file_warns(file: Path) -> None:
    with pytest.warns(UserWarning, match="is not the authors' file"):
        load_mvmc(file)


def test_blob_id_is_gits(tmp_path: Path) -> None:
    (tmp_path / "hello").write_bytes(b"hello\n")
    assert git_blob_id(tmp_path / "hello") == "ce013625030ba8dba906f756967f9e9ca394464a"


def broken(key: str, index: object, value: float) -> dict[str, np.ndarray]:
    content = arrays()
    content[key][index] = value  # type: ignore[index]
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"X": np.zeros(3)}, "no key 'y'"),
        ({**arrays(), "X": np.zeros((851, 6, 32, 32, 3), np.float32)}, "key 'X' is"),
        ({**arrays(), "X": arrays()["X"].astype(np.uint8)}, "key 'X' is"),
        ({**arrays(), "y": np.zeros((851, 6))}, "key 'y' is"),
        (broken("X", (0, 0), np.nan), "key 'X' holds NaN"),
        (broken("X", (0, 0), 255), "key 'X' ranges from 0 to 255"),
        (broken("y", (0, 0), 4), "key 'y' ranges from 0 to 4"),
        (broken("y", 5, 3), "marks sample 5 absent from every camera"),
        ({**arrays(), "y": np.full((851, 6), None)}, "key 'y' cannot be read without unpickling"),
    ],
)
def test_wrong_content_names_the_key(tmp_path: Path, content: dict[str, np.ndarray], message: str) -> None:
    path = tmp_path / "wrong.npz"
    np.savez(path, **content)
    with pytest.raises(ValueError, match=message) as caught:
        load_mvmc(path)
    assert str(path) in str(caught.value)


def test_damage_inside_a_compressed_array(file: Path, tmp_path: Path) -> None:
    content = bytearray(file.read_bytes())
    content[2000:2100] = bytes(100)
    (tmp_path / "damaged.npz").write_bytes(content)
    with pytest.raises(ValueError, match="not a readable NPZ file"):
        load_mvmc(tmp_path / "damaged.npz")


def test_not_an_npz_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--path"):
        load_mvmc(None)
    with pytest.raises(FileNotFoundError, match="no file"):
        load_mvmc(tmp_path / "none.npz")
    for number, content in enumerate((b"", b"PK\x03\x04 broken", b"\x80\x04K\x01.")):
        path = tmp_path / f"{number}.npz"
        path.write_bytes(content)
        with pytest.raises(ValueError, match="NPZ"):
            load_mvmc(path)


@pytest.mark.filterwarnings("ignore:.*is not the authors' file")
@pytest.mark.parametrize("text", ["[]", "{}", '{"order": [1, 2]}', "not json", '{"order": "abc"}'])
def test_bad_split_file(file: Path, tmp_path: Path, text: str) -> None:
    path = tmp_path / "split.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="order"):
        load_mvmc(file, split_file=path)
