from __future__ import annotations

import hashlib
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from ddnn_tf.datasets import MultiViewDataset, load_scenes
from ddnn_tf.datasets import scenes as package
from ddnn_tf.datasets.scenes import render_scenes
from ddnn_tf.datasets.scenes.geometry import Solid, box, ellipsoid
from ddnn_tf.datasets.scenes.tracks import schedule


def stacked(data: MultiViewDataset) -> np.ndarray:
    """All views, `(samples, devices, height, width, channels)`."""
    return np.stack(list(data.views.values()), axis=1)


def test_rays_meet_a_box_and_an_ellipsoid_where_they_should() -> None:
    solid = Solid([box((0, 0, 1), (1, 2, 1), (1, 0, 0))], 10.0, 0.0, np.pi / 2, 1.0)
    origin = np.array([0.0, 0.0, 1.0])
    directions = np.array([[1.0, 0, 0], [0, 1, 0], [-1, 0, 0]])
    assert solid.distances(origin, directions) == pytest.approx([8, np.inf, np.inf])
    rays, distance, colour, normal = solid.hits(origin, directions)
    assert rays.tolist() == [0]
    assert distance == pytest.approx([8])
    assert colour.tolist() == [[1, 0, 0]]
    assert normal[0] == pytest.approx([-1, 0, 0], abs=1e-12)

    ball = Solid([ellipsoid((0, 0, 1), (3, 1, 1), (0, 1, 0))], 10.0, 0.0, 0.0, 1.0)
    rays, distance, _, normal = ball.hits(origin, directions)
    assert distance == pytest.approx([7])
    assert normal[0] == pytest.approx([-1, 0, 0])


def test_the_nearer_part_hides_the_farther() -> None:
    parts = [box((0, 0, 1), (1, 1, 1), (1, 0, 0)), ellipsoid((-3, 0, 1), (1, 1, 1), (0, 1, 0))]
    solid = Solid(parts, 10.0, 0.0, 0.0, 1.0)
    _, distance, colour, _ = solid.hits(np.array([0.0, 0, 1]), np.array([[1.0, 0, 0]]))
    assert distance == pytest.approx([6])
    assert colour.tolist() == [[0, 1, 0]]


def test_the_same_bytes_from_the_same_seed_on_any_number_of_cores() -> None:
    alone, together = render_scenes(12, 3, workers=1), render_scenes(12, 3, workers=2)
    for key in alone:
        assert np.array_equal(alone[key], together[key]), key
    assert not np.array_equal(alone["images"], render_scenes(12, 4, workers=1)["images"])
    # Pinned, so that a change of the picture is a decision and not an accident.
    digest = hashlib.sha256(alone["images"].tobytes()).hexdigest()
    assert digest[:16] == "225790838e031470"


def test_scenes_look_as_they_should() -> None:
    scenes = render_scenes(24, 0)
    images, presence = scenes["images"], scenes["presence"]
    assert presence.any(axis=1).all()
    assert (images[~presence] == 128).all()
    assert (images[presence].std(axis=(1, 2, 3)) > 5).all()
    moments = schedule(400, 0)
    shares = np.bincount([moment.label for moment in moments]) / 400
    assert shares == pytest.approx([0.47, 0.17, 0.36], abs=0.04)


def test_equals_the_prototype(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(shared / "prototypes"))
    monkeypatch.delitem(sys.modules, "scenes", raising=False)
    import scenes as prototype

    images, labels, tracks = prototype.generate(10, seed=7)
    ours = render_scenes(10, 7, workers=1)
    assert np.array_equal(ours["images"], images)
    assert np.array_equal(ours["presence"], labels >= 0)
    assert np.array_equal(ours["tracks"], tracks)


@pytest.mark.parametrize("split", ["random", "track"])
def test_splits(split: str) -> None:
    data = load_scenes(samples=120, split=split)
    assert data.split_rule.startswith("at random" if split == "random" else "by track")
    assert data.instances is not None
    if split == "random":
        assert len(data.split["test"]) == round(120 * 171 / 851)
    else:
        seen = set(data.instances[data.split["train"]]) | set(data.instances[data.split["validation"]])
        assert not seen & set(data.instances[data.split["test"]])


def test_cached_after_the_first_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = load_scenes(samples=10)
    monkeypatch.setattr(package, "render_scenes", lambda *_: pytest.fail("rendered again"))
    again = load_scenes(samples=10)
    assert np.array_equal(stacked(first), stacked(again))


def test_a_damaged_or_unwritable_cache_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    expected = stacked(load_scenes(samples=10))
    (file,) = (tmp_path / "ddnn_tf").iterdir()
    file.write_bytes(file.read_bytes()[:100])
    assert np.array_equal(stacked(load_scenes(samples=10)), expected)
    assert file.stat().st_size > 100

    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="could not be kept"):
        assert np.array_equal(stacked(load_scenes(samples=10)), expected)


def test_bad_arguments() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="one of random, track, but got 'object'"):
            load_scenes(split="object")
        with pytest.raises(ValueError, match="at least 10, but got 3"):
            load_scenes(samples=3)
