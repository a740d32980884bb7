from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from ddnn_tf.datasets import DataSource, MultiViewDataset, load_partitioned, partitioned
from ddnn_tf.datasets.partitioned import tiles


def stacked(data: MultiViewDataset) -> np.ndarray:
    """All views, `(samples, devices, height, width, channels)`."""
    return np.stack(list(data.views.values()), axis=1)


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_mnist(directory: Path, compressed: bool = True) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    train = random.integers(0, 256, (30, 28, 28), dtype=np.uint8)
    test = random.integers(0, 256, (7, 28, 28), dtype=np.uint8)
    content = {
        "train-images-idx3-ubyte": train,
        "train-labels-idx1-ubyte": (np.arange(30) % 10).astype(np.uint8),
        "t10k-images-idx3-ubyte": test,
        "t10k-labels-idx1-ubyte": (np.arange(7) % 10).astype(np.uint8),
    }
    for name, array in content.items():
        if compressed:
            (directory / f"{name}.gz").write_bytes(gzip.compress(idx(array), mtime=0))
        else:
            (directory / name).write_bytes(idx(array))
    return train, test


def test_tiles_are_numbered_column_by_column() -> None:
    images = np.arange(32 * 32).reshape(1, 32, 32, 1)
    cut = tiles(images, (2, 3))
    assert cut.shape == (1, 6, 16, 10, 1)
    corners = cut[0, :, 0, 0, 0]
    assert corners.tolist() == [y * 32 + x for x in (0, 10, 20) for y in (0, 16)]
    assert cut[0, 5, -1, -1, 0] == 31 * 32 + 29


@pytest.mark.parametrize("compressed", [True, False])
def test_train_and_test_are_padded_and_cut_alike(tmp_path: Path, compressed: bool) -> None:
    train, test = write_mnist(tmp_path, compressed)
    data = load_partitioned("mnist", tmp_path)
    images = stacked(data)
    assert images.shape == (37, 6, 16, 10, 1)
    assert data.presence.all()
    for part, source in (("train", train), ("validation", train), ("test", test)):
        for sample in data.split[part]:
            whole = np.pad(source[sample - (30 if part == "test" else 0)], 2)[:, :30]
            rebuilt = np.block(
                [[images[sample, 2 * column + row, :, :, 0] for column in range(3)] for row in range(2)]
            )
            assert np.array_equal(rebuilt, whole)
    assert len(data.split["test"]) == 7
    assert len(data.split["validation"]) == 3


@pytest.mark.parametrize("grid", [(1, 1), (4, 4), (1, 3)])
def test_any_grid(tmp_path: Path, grid: tuple[int, int]) -> None:
    write_mnist(tmp_path)
    data = load_partitioned("mnist", tmp_path, grid=grid)
    assert stacked(data).shape == (37, grid[0] * grid[1], 32 // grid[0], 32 // grid[1], 1)


@pytest.mark.parametrize("grid", [(0, 3), (33, 1)])
def test_impossible_grid(tmp_path: Path, grid: tuple[int, int]) -> None:
    write_mnist(tmp_path)
    with pytest.raises(ValueError, match="grid"):
        load_partitioned("mnist", tmp_path, grid=grid)


def cifar_record(label: int, image: np.ndarray) -> bytes:
    return bytes([label]) + image.transpose(2, 0, 1).tobytes()


@pytest.mark.parametrize(
    ("devices", "shape"), [(1, (32, 32, 1)), (5, (32, 6, 1)), (6, (16, 10, 1)), (12, (10, 8, 1))]
)
def test_as_many_tiles_as_devices(tmp_path: Path, devices: int, shape: tuple[int, ...]) -> None:
    write_mnist(tmp_path)
    data = DataSource(name="mnist", path=str(tmp_path), devices=devices).load()
    assert list(data.shapes.values()) == [shape] * devices
    with pytest.raises(ValueError, match=r"between 1x1 and 32x32 \(the image\), but got 1x37"):
        DataSource(name="mnist", path=str(tmp_path), devices=37).load()


def test_cifar_binary_version(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    records = [cifar_record(number % 10, image) for number, image in enumerate(images)]
    for number in range(5):
        (tmp_path / f"data_batch_{number + 1}.bin").write_bytes(
            b"".join(records[2 * number : 2 * number + 2])
        )
    (tmp_path / "test_batch.bin").write_bytes(b"".join(records[10:]))
    data = load_partitioned("cifar10", tmp_path, grid=(1, 1))
    assert np.array_equal(data.views["device_0"], images)
    assert data.labels.tolist() == [number % 10 for number in range(12)]
    (tmp_path / "test_batch.bin").write_bytes(b"short")
    with pytest.raises(ValueError, match="binary version"):
        load_partitioned("cifar10", tmp_path)


def test_npz(tmp_path: Path) -> None:
    file = tmp_path / "mnist.npz"
    images, labels = np.zeros((10, 28, 28), np.uint8), np.arange(10)
    np.savez(file, x_train=images, y_train=labels, x_test=images, y_test=labels)
    assert stacked(load_partitioned("mnist", file)).shape == (20, 6, 16, 10, 1)
    for key, value, message in (
        ("x_test", images.astype(float), "uint8"),
        ("y_test", labels + 1, "range from 1 to 10"),
        ("y_train", labels[:5], "one integer for each"),
    ):
        content = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels, key: value}
        np.savez(file, **content)
        with pytest.raises(ValueError, match=message):
            load_partitioned("mnist", file)
    np.savez(file, x_train=images)
    with pytest.raises(ValueError, match="no key 'y_train'"):
        load_partitioned("mnist", file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"nonsense", "not an IDX file"),
        (idx(np.zeros((30, 28), np.uint8)), "has 2 dimensions, expected 3"),
        (idx(np.zeros((30, 28, 28), np.uint8))[:-5], "damaged or cut short"),
        (gzip.compress(b"x" * 99, mtime=0)[:-6], "not a readable gzip file"),
        (gzip.compress(bytes(range(256)) * 9, mtime=0)[:12] + b"\xff" * 40, "not a readable gzip file"),
    ],
)
def test_damaged_idx(tmp_path: Path, content: bytes, message: str) -> None:
    write_mnist(tmp_path, compressed=False)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_partitioned("mnist", tmp_path)


def test_without_files_and_network_it_says_where_to_put_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> Path:
        raise Exception("URL fetch failure: Name or service not known")

    source = partitioned.SOURCES["cifar10"]
    monkeypatch.setitem(
        partitioned.SOURCES,
        "cifar10",
        partitioned._Source(
            source.class_names, lambda: (tmp_path / "nowhere",), source.files, source.download
        ),
    )
    monkeypatch.setattr(partitioned, "_keras_file", offline)
    with pytest.raises(FileNotFoundError, match=r"data_batch_1\.bin.*--path.*nowhere") as caught:
        load_partitioned("cifar10")
    assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match="no file or directory"):
        load_partitioned("mnist", tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="train-images-idx3-ubyte"):
        load_partitioned("mnist", tmp_path)
    with pytest.raises(ValueError, match="one of mnist, fashion_mnist, cifar10"):
        load_partitioned("imagenet")


def test_a_download_that_broke_off_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist(tmp_path)
    (tmp_path / "half").mkdir()
    source = partitioned.SOURCES["fashion_mnist"]
    replaced = partitioned._Source(
        source.class_names,
        lambda: (tmp_path / "half",),
        source.files,
        lambda: partitioned._read_local("fashion_mnist", tmp_path),
    )
    monkeypatch.setitem(partitioned.SOURCES, "fashion_mnist", replaced)
    assert len(load_partitioned("fashion_mnist").labels) == 37


def test_the_real_mnist(shared: Path) -> None:
    data = load_partitioned("mnist", shared / "data" / "mnist")
    assert stacked(data).shape == (70_000, 6, 16, 10, 1)
    assert len(data.split["test"]) == 10_000
    assert np.bincount(data.labels[data.split["test"]]).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
    ]  # fmt: skip


def test_debians_fashion_mnist() -> None:
    place = Path("/usr/share/datasets/fashion-mnist")
    if not place.is_dir():
        pytest.skip("the Debian package dataset-fashion-mnist is not installed")
    data = load_partitioned("fashion_mnist")
    assert stacked(data).shape == (70_000, 6, 16, 10, 1)
    assert np.bincount(data.labels[data.split["test"]]).tolist() == [1000] * 10
