"""Parts of a user's own, each one file outside the package, found through an entry point by every command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from outside_site import OUTSIDE, Site

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def trained(site: Site) -> dict[str, Any]:
    return site.json(
        "train", "--data", "two_rooms", "--local", "ATTENTION", "--upper", "ATTENTION",
        "--epochs", 20, "--out", "run",
    )  # fmt: skip


def test_trains_and_evaluates(site: Site, trained: dict[str, Any]) -> None:
    assert trained["devices"] == ["camera", "microphone", "air"]
    assert trained["overall_accuracy"] > 0.6
    assert "aggregation: ATTENTION" in (site.directory / "run" / "topology.yaml").read_text()
    evaluated = site.json("evaluate", "run")
    assert evaluated["exit_accuracy"] == trained["exit_accuracy"]


def test_stands_in_table_1(site: Site) -> None:
    results = site.json(
        "reproduce", "--data", "two_rooms", "--only", "table-1", "--seeds", 1, "--epochs", 1, "--out", "paper"
    )
    schemes = [row["scheme"] for row in results["tables"]["table_1"]["rows"]]
    assert schemes[:9] == [f"{local}-{upper}" for local, upper in EXPECTED]
    assert schemes[9:] == ["ATTENTION-CC", "MP-WCC", "MP-ATTENTION"]


EXPECTED = [
    ("MP", "MP"), ("MP", "CC"), ("AP", "AP"), ("AP", "CC"), ("CC", "CC"),
    ("AP", "MP"), ("MP", "AP"), ("CC", "MP"), ("CC", "AP"),
]  # fmt: skip


@pytest.mark.usefixtures("trained")
def test_exports_verifies_and_serves(site: Site) -> None:
    records = site.json("export", "run", "--out", "bundle.zip", "--target", "tflite,numpy")
    exported = {(record["section"], record["target"]) for record in records}
    assert {(device, "numpy") for device in ("camera", "microphone", "air")} <= exported
    assert ("cloud", "numpy") not in exported
    assert all(record["passed"] for record in site.json("verify", "bundle.zip"))
    evaluated = site.json("evaluate", "run")
    served = site.json("cluster", "bundle.zip", "--plaintext")
    assert served["errors"] == 0
    assert served["accuracy"] == pytest.approx(evaluated["overall_accuracy"])
    assert served["exit_shares"] == pytest.approx(evaluated["exit_shares"])


def test_two_plug_ins_of_one_name_are_one_clear_error(tmp_path: Path) -> None:
    site = Site(tmp_path)
    text = (
        (OUTSIDE / "two_rooms.py")
        .read_text()
        .replace('register_dataset("two_rooms"', 'register_dataset("scenes"')
    )
    (tmp_path / "outside" / "two_rooms.py").write_text(text)
    done = site.run("data", "two_rooms")
    assert done.returncode == 2
    assert "'scenes' is registered by ddnn_tf" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_plug_in_that_fails_is_named(tmp_path: Path) -> None:
    site = Site(tmp_path)
    for content in ("import not_installed\n", "not_defined\n"):
        (tmp_path / "outside" / "attention.py").write_text(content)
        done = site.run("data", "two_rooms")
        assert done.returncode == 2
        assert "plug-in 'outside.attention' of package 'outside' fails" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
