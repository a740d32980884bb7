from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ddnn_tf.fronts import undominated


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(-9, 9)), max_size=30))
def test_the_front_is_what_no_point_beats(points: list[tuple[int, int]]) -> None:
    front = [points[number] for number in undominated(points)]
    # By rising first cost and falling second cost, each point once.
    assert front == sorted(set(front))
    assert [second for _, second in front] == sorted((second for _, second in front), reverse=True)
    for first, second in points:
        assert any(other <= first and another <= second for other, another in front)
    for point in front:
        first, second = point
        assert not any(other != point and other[0] <= first and other[1] <= second for other in points)


def test_of_equal_points_the_first() -> None:
    assert undominated([(2, 2), (1, 3), (1, 3), (2, 2)]) == [1, 0]


def test_a_gain_within_the_tolerance_does_not_count() -> None:
    points = [(1.0, 100.0), (2.0, 99.95), (3.0, 98.0)]
    assert undominated(points) == [0, 1, 2]
    assert undominated(points, tolerance=1e-3) == [0, 2]
    gains = [(cost, -second) for cost, second in ((1.0, 98.0), (2.0, 98.05), (3.0, 99.0))]
    assert undominated(gains, tolerance=1e-3) == [0, 2]
