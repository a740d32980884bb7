"""The checker, against numbers worked out by hand."""

from __future__ import annotations

import pytest

from ddnn_tf.placement import Cnn, Instance, Unit, Workload, check_placement


def instance(**changes: object) -> Instance:
    units = (
        Unit(name="a", memory_kb=10, compute_limit_mop=50, speed_mop_s=10, energy_j_mop=2),
        Unit(name="b", memory_kb=20, compute_limit_mop=100, speed_mop_s=20, energy_j_mop=3),
        Unit(name="c", memory_kb=20, compute_limit_mop=100, speed_mop_s=40, energy_j_mop=5),
    )
    cnn = Cnn(
        name="net", demand_mop=(20, 40, 60), memory_kb=(8, 4, 16), output_kb=(6, 4, 2),
        exit_probability=(0.5, 0, 0.5),
    )  # fmt: skip
    fields = {
        "units": units,
        "cnns": (Workload(cnn=cnn, source="a", sink="c", input_kb=10),),
        "links": (("a", "b"), ("b", "c")),
        "data_rate_kb_s": 2.0,
        "energy_j_kb": 0.5,
    }
    return Instance(**{**fields, **changes})


def test_latency_and_energy() -> None:
    checked = check_placement(instance(), [["b", "a", "c"]])
    (net,) = checked.cnns
    # 20 at 20/s; half of 40 at 10/s and of 60 at 40/s.
    assert net.processing_s == pytest.approx(1 + 0.5 * 4 + 0.5 * 1.5)
    # Image of 10 KB over 1 hop; for half, 6 KB over 1 and 4 KB over 2; half of the decisions over 1.
    kb_hops = 10 * 1 + 0.5 * 6 * 1 + 0.5 * 4 * 2 + 0.5 * 2 * 1 + 0.5 * 2 * 0
    assert net.transmission_s == pytest.approx(kb_hops / 2)
    assert checked.energy_j == pytest.approx(20 * 3 + 0.5 * 40 * 2 + 0.5 * 60 * 5 + 0.5 * kb_hops)
    assert checked.latency_s == pytest.approx(net.processing_s + net.transmission_s)
    assert checked.violations == ()


def test_image_to_the_second_layer_as_in_the_reference() -> None:
    right = check_placement(instance(), [["b", "a", "c"]]).latency_s
    theirs = check_placement(instance(reference_compatible=True), [["b", "a", "c"]]).latency_s
    # From a to b, always, against from a to a, in half of the cases.
    assert right - theirs == pytest.approx(10 / 2)


def test_violations() -> None:
    checked = check_placement(instance(layers_per_unit=2), [["a", "a", "a"]])
    assert checked.violations == (
        "a holds 28 KB of 10",
        "a computes 120 million operations of 50",
        "a holds 3 layers of 2",
    )


def test_units_of_their_own() -> None:
    one = instance().cnns[0]
    both = instance(cnns=(one, one), shared=False)
    found = check_placement(both, [["a", "b", "c"], ["a", "b", "c"]]).violations
    assert "b holds layers of 2 CNNs, but units are not shared" in found


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ([], "an assignment for 1 CNNs, but got 0"),
        ([["a", "b"]], "units for the 3 layers of 'net', but got 2"),
        ([["a", "b", "z"]], "but got 'z': there is no such unit"),
    ],
)
def test_refuses(assignment: list[list[str]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_placement(instance(), assignment)
