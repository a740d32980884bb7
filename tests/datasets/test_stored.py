from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ddnn_tf.datasets.stored import StoredView, memory_budget


@pytest.fixture
def view(tmp_path: Path) -> StoredView:
    view = StoredView.create(tmp_path / "camera.npy", (5, 2, 3, 1))
    for row in range(1, 5):
        view[row] = np.full((2, 3, 1), 10 * row, np.uint8)
    return view


def test_a_view_in_a_file_is_indexed_like_an_array(view: StoredView) -> None:
    whole = np.asarray(view)
    assert whole.tolist() == np.load(view.path).tolist()
    assert whole[:, 0, 0, 0].tolist() == [0, 10, 20, 30, 40]
    assert (view.shape, view.ndim, view.nbytes, len(view), view.dtype) == ((5, 2, 3, 1), 4, 30, 5, np.uint8)
    for rows in (3, slice(1, 4), [4, 0], np.array([2, 2]), whole[:, 0, 0, 0] > 20):
        assert np.array_equal(view[rows], whole[rows])
    assert np.array_equal(np.asarray(view, np.float32), whole.astype(np.float32))


def test_what_is_read_is_a_copy(view: StoredView) -> None:
    view[1][...] = 99
    assert view[1].max() == 10
    assert StoredView(view.path)[4].min() == 40


def test_some_samples_are_a_view_in_the_same_file(view: StoredView) -> None:
    some = view.take(np.array([4, 2, 0]))
    assert some.shape == (3, 2, 3, 1)
    assert np.asarray(some)[:, 0, 0, 0].tolist() == [40, 20, 0]
    assert some.take(np.array([1]))[0].max() == 20
    some[2] = np.full((2, 3, 1), 7, np.uint8)
    assert view[0].min() == 7


def test_the_budget_is_a_quarter_of_memory_or_what_the_variable_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DDNN_MEMORY_MB", raising=False)
    assert 100_000_000 < memory_budget() < 1 << 44
    monkeypatch.setenv("DDNN_MEMORY_MB", "12")
    assert memory_budget() == 12_000_000
    monkeypatch.setenv("DDNN_MEMORY_MB", "12 GB")
    with pytest.raises(ValueError, match="DDNN_MEMORY_MB to be a number, but got '12 GB'"):
        memory_budget()
