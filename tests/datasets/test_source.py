from __future__ import annotations

from pathlib import Path

import pytest

from ddnn_tf.datasets import DATASETS, DataSource, load_dataset


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "imagenet"}, f"one of {', '.join(DATASETS)}, but got 'imagenet'"),
        ({"name": "scenes", "path": "x"}, "no `path` here, but got 'x'"),
        ({"name": "eth80", "split": "track"}, "no `split` here"),
        ({"name": "mnist", "split_file": "x"}, "no `split_file` here"),
        ({"name": "mnist", "devices": 5}, "one of 1, 2, 3, 4, 6 for a partitioned image, but got 5"),
        ({"name": "mvmc"}, "--path"),
        ({"name": "scenes", "samples": 10}, "'samples' is 10: extra inputs are not permitted"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_dataset(**options)  # type: ignore[arg-type]


def test_a_source_loads_the_same_data_again(shared: Path) -> None:
    source = DataSource(name="eth80", path=str(shared / "data" / "eth80_32.npz"), devices=3, seed=2)
    again = DataSource.model_validate_json(source.model_dump_json()).load()
    data = source.load()
    assert data.devices == 3
    assert data.split["test"].tolist() == again.split["test"].tolist()
