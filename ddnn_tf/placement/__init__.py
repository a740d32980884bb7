"""The placement of CNN layers on the units of an IoT network, as an optimization problem.

    >>> from ddnn_tf.placement import random_instance, solve
    >>> solution = solve(random_instance("single", seed=1))
    >>> solution.status, round(solution.latency_s, 4)
    ('optimal', 1.6021)

Units with limited memory and computing power, linked by radio, hold the layers of one or several CNNs, with
or without early exits. The optimum is the assignment of least decision latency: `problem` states the
mathematics, `solver` finds the optimum and proves it with HiGHS, `checker` recomputes it from the definition.
`ddnn` places the sections of a trained DDNN. Nothing here imports TensorFlow before it gets a Keras model.

Source: Disabato, Roveri and Alippi, "Distributed Deep Convolutional Neural Networks for the
Internet-of-Things", arXiv 1908.01656.
"""

from ddnn_tf.placement.checker import Checked, CnnLatency, check_placement
from ddnn_tf.placement.cnn_catalogue import CNNS, UNIT_TYPES
from ddnn_tf.placement.feasibility import InfeasibleError
from ddnn_tf.placement.instance import Cnn, Instance, Workload
from ddnn_tf.placement.random_instances import SCENARIOS, Scenario, random_instance
from ddnn_tf.placement.solution import Solution, solve
from ddnn_tf.placement.units import Unit, UnitNetwork

__all__ = [
    "CNNS",
    "SCENARIOS",
    "UNIT_TYPES",
    "Checked",
    "Cnn",
    "CnnLatency",
    "InfeasibleError",
    "Instance",
    "Scenario",
    "Solution",
    "Unit",
    "UnitNetwork",
    "Workload",
    "check_placement",
    "random_instance",
    "solve",
]
