"""Unlike devices and any depth through every command: train, evaluate, export, verify, cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from outside_site import Site

pytestmark = pytest.mark.slow

TREE = """
devices:
- {name: camera, input: [12, 10, 1], filters: [4]}
- {name: microphone, input: [20, 1], filters: [4, 4]}
- {name: air, input: [2], units: [16]}
local:
- {name: site_a, devices: [camera]}
- {name: site_b, devices: [microphone, air], aggregation: AP}
edges:
- {name: hall, senders: [camera, microphone], adapter: [6, 5, 2], filters: [8]}
- {name: cellar, senders: [air], units: [24], exit: false}
- {name: gateway, senders: [hall, cellar], adapter: [32], units: [32], tier: gateway}
cloud: {units: [32]}
classes: 3
"""
"""A picture, a series and a vector; two sites; two levels of edges, one edge without an exit."""

TARGETS = "tflite,micro-int8,lce,c"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def trained(site: Site) -> dict[str, Any]:
    (site.directory / "tree.yaml").write_text(TREE)
    return site.json(
        "train", "--data", "two_rooms", "--topology", "tree.yaml", "--epochs", 25, "--out", "tree"
    )


def test_every_tier_of_the_tree_is_measured(site: Site, trained: dict[str, Any]) -> None:
    assert list(trained["exit_accuracy"]) == ["local", "edge", "gateway", "cloud"]
    assert list(trained["thresholds"]) == ["local", "edge", "gateway"]
    assert trained["overall_accuracy"] > 0.6
    links = trained["bytes_per_link"]
    assert links["site_a -> aggregator"] == 12
    assert links["air -> cellar"] <= 2
    assert "hall -> aggregator" not in links
    assert site.json("evaluate", "tree")["bytes_per_link"] == links


@pytest.mark.usefixtures("trained")
def test_the_topology_holds_the_codings_of_the_data(site: Site) -> None:
    written = (site.directory / "tree" / "topology.yaml").read_text()
    assert "codings:" in written
    assert "air:" in written
    assert "camera:" not in written.split("codings:")[1]


@pytest.fixture(scope="module")
def bundle(site: Site, trained: dict[str, Any]) -> list[dict[str, Any]]:
    assert trained
    return site.json("export", "tree", "--out", "tree.zip", "--target", TARGETS)


def test_every_section_is_exported_within_its_tolerance(bundle: list[dict[str, Any]], site: Site) -> None:
    sections = {record["section"] for record in bundle}
    assert {
        "camera",
        "microphone",
        "air",
        "site_a",
        "site_b",
        "hall",
        "cellar",
        "gateway",
        "cloud",
    } <= sections
    assert {"hall_from_camera", "gateway_from_cellar"} <= sections
    on_c = {record["section"] for record in bundle if record["target"] == "c"}
    assert on_c == {"camera", "microphone", "air"}
    assert all(record["bit_agreement"] in (None, 1.0) for record in bundle if record["target"] == "c")
    assert all(record["passed"] for record in site.json("verify", "tree.zip"))


@pytest.mark.parametrize("engine", ["tflite", "c"])
@pytest.mark.usefixtures("bundle")
def test_the_cluster_answers_as_the_evaluation_does(site: Site, engine: str) -> None:
    evaluated = site.json("evaluate", "tree")
    served = site.json("cluster", "tree.zip", "--plaintext", "--engine", engine)
    assert served["answered"] == served["submitted"] == evaluated["test_samples"]
    assert served["errors"] == served["degraded"] == 0
    assert served["accuracy"] == pytest.approx(evaluated["overall_accuracy"])
    assert served["exit_shares"] == pytest.approx(evaluated["exit_shares"])
    assert served["payload_bytes_per_link"] == pytest.approx(
        {link: size for link, size in evaluated["bytes_per_link"].items() if size}
    )


@pytest.mark.parametrize(
    ("name", "file", "classes"), [("occupancy", "occupancy.csv", 4), ("mfeat", "mfeat.npz", 10)]
)
def test_real_unlike_devices(name: str, file: str, classes: int, shared: Path, tmp_path: Path) -> None:
    site = Site(tmp_path)
    trained = site.json(
        "train", "--data", name, "--path", shared / "data" / file, "--epochs", 3, "--out", "run"
    )
    assert trained["overall_balanced_accuracy"] > 1.5 / classes
    records = site.json("export", "run", "--out", "run.zip", "--target", "tflite,c")
    assert all(record["passed"] for record in records)
    served = site.json("cluster", "run.zip", "--plaintext", "--samples", 40)
    assert served["answered"] == 40
    assert served["errors"] == 0
