from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ddnn_tf.datasets import DataSource, fitting_topology, load_mfeat

FEATURES = {"fac": 216, "fou": 76, "kar": 64, "mor": 6, "pix": 240, "zer": 47}


def write(path: Path, samples: int = 60, **changes: np.ndarray) -> Path:
    """A file in the form of Multiple Features; the first number of every vector is the sample's."""
    random = np.random.default_rng(0)
    content = {
        name: random.normal(size=(samples, count)).astype(np.float32) for name, count in FEATURES.items()
    }
    for array in content.values():
        array[:, 0] = np.arange(samples)
    np.savez(path, **{**content, "y": np.arange(samples) % 10, **changes})
    return path


def test_six_vectors_as_codes(tmp_path: Path) -> None:
    data = load_mfeat(write(tmp_path / "mfeat.npz"))
    assert data.shapes == {name: (count,) for name, count in FEATURES.items()}
    assert {part: len(rows) for part, rows in data.split.items()} == {
        "train": 42,
        "validation": 6,
        "test": 12,
    }
    assert data.class_names == tuple("0123456789")
    assert not data.balance
    train = data.split["train"]
    for name, view in data.views.items():
        coding = data.codings[name]
        assert view.dtype == np.uint8
        # The codes of the training samples span the whole range, and decode to within half a step.
        assert view[train].min(axis=0).tolist() == [0] * FEATURES[name]
        assert view[train].max(axis=0).tolist() == [255] * FEATURES[name]
        decoded = coding.decode(view[train])[:, 0]
        assert np.abs(decoded - train).max() <= coding.scale[0] / 2 + 1e-6


def test_a_topology_that_fits(tmp_path: Path) -> None:
    data = load_mfeat(write(tmp_path / "mfeat.npz"))
    topology = fitting_topology(data, "e")
    assert topology.hierarchy.device_names == tuple(FEATURES)
    assert all(node.output is not None and node.output.shape == (32,) for node in topology.hierarchy.devices)
    assert topology.codings == dict(data.codings)
    data.check_fit(topology)


def test_the_seed_draws_the_split_and_the_codings(tmp_path: Path) -> None:
    source = DataSource(name="mfeat", path=str(write(tmp_path / "mfeat.npz")))
    first, second = source.load(), source.model_copy(update={"seed": 1}).load()
    assert first.split["test"].tolist() != second.split["test"].tolist()
    assert first.digest() == source.load().digest() != second.digest()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fac": np.zeros((60, 215), np.float32)}, "key 'fac' is .*215.* expected .*216"),
        ({"mor": np.zeros((60, 6), int)}, "key 'mor' is .*int"),
        ({"zer": np.full((60, 47), np.nan, np.float32)}, "key 'zer' holds NaN or infinity"),
        ({"pix": np.zeros((59, 240), np.float32)}, "key 'pix' is .*59"),
        ({"y": np.arange(60)}, "key 'y' is .* expected digits 0 to 9"),
        ({"y": np.zeros(60)}, "key 'y' is .*float64"),
    ],
)
def test_wrong_content_names_the_key(tmp_path: Path, changes: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_mfeat(write(tmp_path / "wrong.npz", **changes))


def test_a_missing_key_and_a_missing_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "part.npz", fac=np.zeros((3, 216)))
    with pytest.raises(ValueError, match=r"no key 'fou' \(feature vectors\)"):
        load_mfeat(tmp_path / "part.npz")
    monkeypatch.setenv("DDNN_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"mfeat\.npz.*--path.*DDNN_DATA"):
        load_mfeat()


def test_the_real_file(shared: Path) -> None:
    data = load_mfeat(shared / "data" / "mfeat.npz")
    assert data.labels.shape == (2000,)
    assert np.bincount(data.labels).tolist() == [200] * 10
    assert data.shapes == {name: (count,) for name, count in FEATURES.items()}
    assert len(data.split["test"]) == 400
