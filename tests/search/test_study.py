"""Searches whose networks are not trained: what they answer depends on their key alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from ddnn_tf.datasets import DataSource
from ddnn_tf.evaluation.store import Answers, TrialStore
from ddnn_tf.evaluation.trial import Trial
from ddnn_tf.search import Limits, Space, open_search, search, study

SPACE = Space(
    filters=[1, 2],
    local=["MP"],
    cloud_precision=["float"],
    recipe={"drop": [0.0, 0.5], "warm_up": [0.0, 0.1]},
)


class Trainer:
    """Stands in for `train_trials`; remembers what it was asked to train."""

    def __init__(self) -> None:
        self.trained: list[Trial] = []
        self.interrupt_after = 1_000_000

    def __call__(self, trials: Sequence[Trial], directory: Path, **_: Any) -> None:
        for trial in trials:
            if len(self.trained) >= self.interrupt_after:
                raise KeyboardInterrupt
            self.trained.append(trial)
            random = np.random.default_rng(int(trial.key, 16))
            data = trial.source.load()
            answers = {
                part: [
                    {tier: random.dirichlet([0.3, 0.3], len(data.split[part])) for tier in trial.outputs}
                    for _ in range(1 + len(trial.missing))
                ]
                for part in ("validation", "test")
            }
            without = {
                part: dict(zip(trial.missing, sets[1:], strict=True)) for part, sets in answers.items()
            }
            kept = Answers(answers["validation"][0], answers["test"][0], without, 0.0)
            TrialStore(directory).write(trial, kept, [])


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Trainer:
    trainer = Trainer()
    monkeypatch.setattr(study, "train_trials", trainer)
    return trainer


def summary(directory: Path) -> list[tuple[Any, ...]]:
    found = open_search(directory)
    return [(point.topology, point.recipe, point.validation, point.test) for point in found.points]


def test_an_interrupted_search_goes_on_as_if_it_had_not_been(
    trainer: Trainer, tiny_source: DataSource, tmp_path: Path
) -> None:
    whole = search(tmp_path / "whole", tiny_source, space=SPACE, trials=6, epochs=1)
    assert len(trainer.trained) == len(set(trainer.trained)) == 6
    trainer.interrupt_after = 9
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "parts", tiny_source, space=SPACE, trials=6, epochs=1)
    assert len(open_search(tmp_path / "parts").points) == 3
    assert all(point.test is None for point in open_search(tmp_path / "parts").points)
    trainer.interrupt_after = 1_000_000
    search(tmp_path / "parts", tiny_source, space=SPACE, trials=5, epochs=1)
    search(tmp_path / "parts", tiny_source, space=SPACE, trials=6, epochs=1)
    assert len(trainer.trained) == 12
    assert [each[:3] for each in summary(tmp_path / "parts")] == [
        (point.topology, point.recipe, point.validation) for point in whole.points
    ]
    assert [point.test for point in open_search(tmp_path / "parts").front] == [
        point.test for point in whole.front
    ]


def test_optuna_opens_the_study_and_finds_the_same_front(
    trainer: Trainer, tiny_source: DataSource, tmp_path: Path
) -> None:
    limits = Limits(min_accuracy_any_one_missing=0.2)
    found = search(tmp_path, tiny_source, space=SPACE, limits=limits, objective="robust", trials=8, epochs=1)
    opened = optuna.load_study(study_name="search", storage=f"sqlite:///{tmp_path}/study.db")
    best = {(trial.values[1], trial.values[0]) for trial in opened.best_trials}
    assert best == {(point.validation.bytes_per_sample, point.score("robust")) for point in found.front}
    assert all((point.validation.worst_accuracy_one_missing or 0) >= 0.2 for point in found.front)
    assert all(point.test is not None for point in found.front)
    assert all(point.test is None for point in found.points if point not in found.front)


def test_candidates_beyond_a_limit_are_not_trained(
    trainer: Trainer, tiny_source: DataSource, tmp_path: Path
) -> None:
    # The class vector takes 8 bytes, the feature map of one filter 2 more, of two filters 4.
    smallest = search(tmp_path / "all", tiny_source, space=SPACE, trials=5, epochs=1).points
    flash = min(point.device_flash_bytes for point in smallest)
    limits = Limits(max_device_flash=flash)
    found = search(tmp_path / "limited", tiny_source, space=SPACE, limits=limits, trials=3, epochs=1)
    assert found.refused > 0
    assert {point.device_flash_bytes for point in found.points} == {flash}
    trained = len(trainer.trained)
    with pytest.raises(ValueError, match=r"None of 100 .* bytes of flash .*--max-device-flash 100"):
        search(tmp_path / "none", tiny_source, space=SPACE, limits=Limits(max_device_flash=100), epochs=1)
    assert len(trainer.trained) == trained
    assert not (tmp_path / "none").exists()


def test_a_space_that_is_exhausted_ends_the_search(
    trainer: Trainer, tiny_source: DataSource, tmp_path: Path
) -> None:
    space = SPACE.model_copy(update={"upper": ("MP",), "recipe": {"warm_up": (0.0, 0.1)}})
    found = search(tmp_path, tiny_source, space=space, trials=50, epochs=1, workers=3)
    assert len(found.points) == len(trainer.trained) == 4


def test_another_search_in_the_directory_is_refused_by_the_option(
    trainer: Trainer, tiny_source: DataSource, tmp_path: Path
) -> None:
    search(tmp_path, tiny_source, space=SPACE, trials=1, epochs=1)
    front = (tmp_path / "front.json").read_text()
    for options, message in (
        ({"epochs": 2}, "epochs 1, not 2"),
        ({"epochs": 1, "limits": Limits(max_bytes=9)}, "limits.max_bytes None, not 9.0"),
        ({"epochs": 1, "space": Space()}, "space.filters"),
    ):
        with pytest.raises(FileExistsError, match=message):
            search(tmp_path, tiny_source, **{"space": SPACE, "trials": 2, **options})  # type: ignore[arg-type]
    assert (tmp_path / "front.json").read_text() == front


def test_what_is_impossible_is_refused_at_once(
    trainer: Trainer, tiny_source: DataSource, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="`trials` to be at least 1"):
        search(tmp_path / "x", tiny_source, trials=0)
    (tmp_path / "mine.txt").write_text("")
    with pytest.raises(FileExistsError, match="holds other files"):
        search(tmp_path, tiny_source)
    limits = Limits(min_accuracy_any_one_missing=1)
    with pytest.raises(ValueError, match=r"None of 2 networks keeps the limits .*ask for more --trials"):
        search(tmp_path / "x", tiny_source, space=SPACE, limits=limits, trials=2, epochs=1)


def test_a_study_that_is_no_database_is_named(
    trainer: Trainer, tiny_source: DataSource, tmp_path: Path
) -> None:
    search(tmp_path, tiny_source, space=SPACE, trials=1, epochs=1)
    assert json.loads((tmp_path / "front.json").read_text())["trained"] == 1
    (tmp_path / "study.db").write_text("not a database")
    with pytest.raises(OSError, match=r"study\.db' cannot be read .*not a database"):
        open_search(tmp_path)
