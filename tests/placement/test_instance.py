"""Instances: what they say, what they refuse, and what a random one is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_placements import small_instance

from ddnn_tf.placement import CNNS, UNIT_TYPES, Cnn, Instance, Scenario, Unit, random_instance
from ddnn_tf.placement.checker import _Hops
from ddnn_tf.placement.cnn_catalogue import DATA_RATE_KB_S, DEFAULT_MIX, INPUT_KB

TEXT = """
units:
- {name: camera, type: stm32h7, position: [0, 0]}
- {name: board, type: raspberry_pi_3b_plus, position: [2, 1]}
- {name: server, memory_kb: 4194304, speed_mop_s: 5000, position: [4, 1]}
range_m: 3.0
cnns:
- {cnn: alexnet, source: camera}
layers_per_unit: 4
"""


def fields() -> dict[str, Any]:
    return Instance.from_yaml(TEXT).model_dump(mode="json", exclude_none=True)


def test_reads_what_the_documentation_shows() -> None:
    instance = Instance.from_yaml(TEXT)
    assert instance.hops.tolist() == [[0, 1, 2], [1, 0, 1], [2, 1, 0]]
    assert instance.units[0].memory_kb == 512
    assert instance.cnns[0].cnn == Cnn.builtin("alexnet")
    assert instance.cnns[0].target == "camera"


@pytest.mark.parametrize("seed", range(5))
def test_yaml_and_json_give_it_back(seed: int, tmp_path: Path) -> None:
    for instance in (random_instance("mixed", seed), small_instance(seed)):
        assert Instance.from_yaml(instance.to_yaml()) == instance
        (tmp_path / "instance.json").write_text(instance.model_dump_json(exclude_none=True))
        assert Instance.load(tmp_path / "instance.json") == instance


def test_catalogue_is_the_reference(shared: Path) -> None:
    reference = json.loads((shared / "reference" / "placement.json").read_text())
    assert set(UNIT_TYPES) == set(reference["unit_types"])
    for name, kind in reference["unit_types"].items():
        unit = Unit(name="x", type=name)
        assert (unit.memory_kb, unit.compute_limit_mop, unit.speed_mop_s) == tuple(kind.values())
    assert set(CNNS) == set(reference["cnns"])
    for name, numbers in reference["cnns"].items():
        cnn = Cnn.builtin(name)
        assert list(cnn.demand_mop) == numbers["c"]
        assert list(cnn.memory_kb) == numbers["m"]
        assert list(cnn.output_kb) == numbers["K"]
        if "p" in numbers:
            assert list(cnn.run_probability) == numbers["p"]
            assert list(cnn.exit_probability) == numbers["g"]
        else:
            assert set(cnn.run_probability) == {1.0}
            assert cnn.exit_probability[-1] == sum(cnn.exit_probability) == 1
    assert reference["defaults"]["datarate"] == DATA_RATE_KB_S
    # The file's 603.926 is not 227 * 227 * 3 * 4 / 1024; the printed optimum comes of the latter.
    assert reference["defaults"]["source_image_KB"] == pytest.approx(INPUT_KB, rel=2e-4)
    assert reference["defaults"]["mix"] == DEFAULT_MIX


def test_run_probability_follows_from_the_exits() -> None:
    cnn = Cnn(
        name="x", demand_mop=(1, 1, 1), memory_kb=(1, 1, 1), output_kb=(1, 1, 1),
        exit_probability=(0.5, 0.3, 0.2),
    )  # fmt: skip
    assert cnn.run_probability == pytest.approx((1, 0.5, 0.2))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=2, max_size=9, unique=True),
    st.floats(0.5, 12),
)
def test_hops_are_those_of_a_breadth_first_search(points: list[tuple[float, float]], reach: float) -> None:
    units = [
        Unit(name=f"u{at}", memory_kb=1, speed_mop_s=1, position=point) for at, point in enumerate(points)
    ]
    cnn = {"name": "x", "demand_mop": [1], "memory_kb": [1], "output_kb": [1]}
    try:
        instance = Instance(units=units, cnns=[{"cnn": cnn, "source": (0.0, 0.0)}], range_m=reach)
    except ValueError as error:
        assert "not connected" in str(error)  # noqa: PT017
        return
    hops = _Hops(instance)
    for one, first in enumerate(instance.unit_names):
        assert hops.between((0.0, 0.0), first) == instance.hops_from((0.0, 0.0))[one]
        for two, second in enumerate(instance.unit_names):
            assert hops.between(first, second) == instance.hops[one, two]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"range_m": 2.0}, r"not connected, 'camera' cannot reach 'board'"),
        ({"range_m": -1}, r"'range_m' is -1.*greater than 0"),
        ({"range_m": None}, r"'range_m' and 'links': give one"),
        ({"data_rate_kb_s": 0}, r"'data_rate_kb_s' is 0"),
        ({"layers_per_unit": 0}, r"'layers_per_unit' is 0"),
        ({"objective": "least"}, r"'objective' is 'least'"),
        ({"colour": 1}, r"no field 'colour'"),
        ({"units": []}, r"'units' is \[\]"),
        ({"units": [{"name": "a", "type": "toaster", "position": [0, 0]}]}, r"unit type out of .*'toaster'"),
        ({"units": [{"name": "a", "type": "stm32h7"}], "cnns": [{"cnn": "alexnet", "source": "a"}]},
         r"'a' has no 'position'"),
        ({"units": [{"name": "a", "memory_kb": -5, "speed_mop_s": 1}]}, r"memory_kb' is -5"),
        ({"units": [{"name": "a", "memory_kb": 5, "speed_mop_s": 0}]}, r"speed_mop_s' is 0"),
        ({"cnns": [{"cnn": "lenet", "source": "camera"}]}, r"CNN out of .*'lenet'"),
        ({"cnns": [{"cnn": "alexnet", "source": "attic"}]}, r"'attic' is to be a source"),
        ({"cnns": [{"cnn": "alexnet"}]}, r"lacks the field 'cnns.0.source'"),
        ({"links": [["camera", "attic"]], "range_m": None}, r"'links' names 'attic'"),
    ],
)  # fmt: skip
def test_refuses(change: dict[str, Any], message: str) -> None:
    content = {**fields(), **change}
    content = {name: value for name, value in content.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        Instance(**content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"exit_probability": [0.5, 0.4]}, "adds up to 0.9"),
        ({"exit_probability": [0.5, 0.6]}, "adds up to 1.1"),
        ({"exit_probability": [1.5, -0.5]}, "exit_probability.0' is 1.5"),
        ({"exit_probability": [1.0]}, "has 1 values, but 'demand_mop' has 2"),
        ({"run_probability": [0.5, 1.0]}, "rises from 0.5 to 1"),
        ({"run_probability": [1.0, 0.5]}, "is 1 after layer 1, which runs with probability 0.5"),
        ({"memory_kb": [1, -2]}, "memory_kb.1' is -2"),
        ({"demand_mop": []}, "demand_mop' is"),
        ({"layers": ["a", "a"]}, "'layers' of 'x' names 'a' twice"),
        ({"output_kb": [1, float("nan")]}, "output_kb.1' is nan"),
    ],
)
def test_refuses_cnns(change: dict[str, Any], message: str) -> None:
    cnn = {"name": "x", "demand_mop": [1, 1], "memory_kb": [1, 1], "output_kb": [1, 1], **change}
    with pytest.raises(ValueError, match=message):
        Instance(**{**fields(), "cnns": [{"cnn": cnn, "source": "camera"}]})


def test_two_units_of_one_name() -> None:
    units = [{"name": "a", "memory_kb": 1, "speed_mop_s": 1, "position": [0, 0]}] * 2
    with pytest.raises(ValueError, match="'units' names 'a' twice"):
        Instance(**{**fields(), "units": units, "cnns": [{"cnn": "alexnet", "source": "a"}]})


@pytest.mark.parametrize("text", ["[1, 2]", "units: [", "3"])
def test_no_instance_at_all(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"x\.yaml: .*(YAML)"):
        Instance.load(tmp_path / "x.yaml")


def test_random_instances_repeat_and_are_connected() -> None:
    for name in ("single", "early-exit", "multi", "mixed"):
        instance = random_instance(name, 3)
        assert instance == random_instance(name, 3)
        assert instance != random_instance(name, 4)
        assert np.isfinite(instance.hops).all()
        assert len(instance.units) == 50
    kinds = [unit.type for seed in range(40) for unit in random_instance("mixed", seed).units]
    shares = {kind: kinds.count(kind) / len(kinds) for kind in set(kinds)}
    assert shares == pytest.approx(DEFAULT_MIX, abs=0.03)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"units": 0}, "`units` to be at least 1, but got 0"),
        ({"range_m": 0.0}, "`range_m` to be positive, but got 0"),
        ({"half_width_m": float("inf")}, "`half_width_m` to be positive, but got inf"),
        ({"mix": {"jetson": 0.5}}, "`mix` to add up to 1, but got .*0.5"),
        ({"mix": {"toaster": 1.0}}, "unit type out of .*'toaster'"),
        ({"cnns": ()}, "`cnns` to name at least one"),
        ({"cnns": ("lenet",)}, "CNN out of .*'lenet'"),
        ({"mix": {"jetson": float("nan")}}, "`mix` to add up to 1, but got .*nan"),
        ({"input_kb": -1.0}, "`input_kb` to be 0 or more, but got -1"),
        ({"range_m": 0.1}, "none of 1000 networks was connected"),
    ],
)
def test_refuses_scenarios(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        random_instance(Scenario(**change))


def test_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ddnn_tf.placement.units.find_spec", lambda name: None if name == "highspy" else name)
    with pytest.raises(ImportError, match=r"highspy is not installed: pip install 'ddnn_tf\[placement\]'"):
        Instance.from_yaml(TEXT)


def test_unknown_scenario() -> None:
    with pytest.raises(ValueError, match="scenario out of single, early-exit, multi, mixed, but got 'x'"):
        random_instance("x")
