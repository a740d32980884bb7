"""The page of a data check."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from ddnn_tf.datasets import MultiViewDataset
from ddnn_tf.datasets.check_page import to_html
from ddnn_tf.datasets.checking import DataCheck, check_dataset
from ddnn_tf.datasets.recording import Problem


@pytest.fixture
def data() -> MultiViewDataset:
    """A grey and a colour camera, a node with readings in time and one without, and names that are HTML."""
    random = np.random.default_rng(0)
    views = {
        "<grey>": random.integers(0, 256, (60, 12, 20, 1), dtype=np.uint8),
        "colour": random.integers(0, 256, (60, 300, 200, 3), dtype=np.uint8),
        "series": random.integers(0, 256, (60, 16, 2), dtype=np.uint8),
        "vector": random.integers(0, 256, (60, 9), dtype=np.uint8),
    }
    presence = np.ones((60, 4), bool)
    presence[0, 0] = False
    return MultiViewDataset(
        name="R&D",
        views=views,
        labels=np.arange(60) % 2,
        presence=presence,
        class_names=("a", "b"),
        split={"train": np.arange(40), "validation": np.arange(40, 50), "test": np.arange(50, 60)},
        split_rule="in order",
    )


def pictures(page: str, alt: str) -> list[np.ndarray]:
    found = re.findall(rf'<img src="data:image/png;base64,([^"]+)" alt="{re.escape(alt)}"', page)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(content)))) for content in found]


def test_pictures_show_the_views(data: MultiViewDataset) -> None:
    page = to_html(check_dataset(data))
    (grey,) = pictures(page, "&lt;grey&gt;[20]")
    assert np.array_equal(grey, data.views["<grey>"][20, :, :, 0])
    (colour,) = pictures(page, "colour[0]")
    assert np.array_equal(colour, data.views["colour"][0, ::4, ::4])
    (series,) = pictures(page, "series[0]")
    assert np.array_equal(series, data.views["series"][0].T)
    (vector,) = pictures(page, "vector[0]")
    assert np.array_equal(vector, data.views["vector"][:1])
    assert pictures(page, "&lt;grey&gt;[0]") == []


def test_names_are_escaped_and_reasons_are_told(data: MultiViewDataset) -> None:
    page = to_html(check_dataset(data))
    assert "Data check: R&amp;D" in page
    assert "<grey>" not in page
    assert "series: readings in time are not compared" in page


def test_the_most_alike_pairs_are_shown(data: MultiViewDataset) -> None:
    views = {device: view.copy() for device, view in data.views.items()}
    for view in views.values():
        view[55] = view[3]
    leaking = MultiViewDataset(**{**vars(data), "views": views})
    page = to_html(check_dataset(leaking))
    assert "test 55: b" in page
    assert "training 3: b" in page
    assert len(pictures(page, "colour[55]")) == 1


def test_errors_that_keep_data_from_being_split() -> None:
    page = to_html(DataCheck("hall", (Problem("split", "There is no `time`."),)))
    assert "1 error and 0\nwarnings" in page
    assert "There is no `time`." in page
    assert "Samples" not in page


def test_many_classes_show_fewer_samples_of_each() -> None:
    random = np.random.default_rng(0)
    many = MultiViewDataset(
        name="many",
        views={"camera": random.integers(0, 256, (900, 8, 8, 1), dtype=np.uint8)},
        labels=np.arange(900) % 300,
        presence=np.ones((900, 1), bool),
        class_names=tuple(f"class {number}" for number in range(300)),
        split={"train": np.arange(300), "validation": np.arange(300, 600), "test": np.arange(600, 900)},
        split_rule="in order",
    )
    page = to_html(check_dataset(many))
    assert page.count("<img") <= 600
