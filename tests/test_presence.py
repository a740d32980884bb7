from __future__ import annotations

import numpy as np
import pytest
from skipping import CAMERAS, SKIPPING
from unlike import UNLIKE

from ddnn_tf.hierarchy import Hierarchy, Role
from ddnn_tf.topology import Topology


def reaches(hierarchy: Hierarchy, up: dict[str, bool], sender: str, receiver: str) -> bool:
    """By the definition, from above: whether a receiver hears a sender."""
    node = hierarchy[sender]
    if receiver in (node.receiver, node.aggregator):
        return speaks(hierarchy, up, sender)
    return speaks(hierarchy, up, sender) and not speaks(hierarchy, up, str(node.receiver))


def speaks(hierarchy: Hierarchy, up: dict[str, bool], name: str) -> bool:
    node = hierarchy[name]
    if node.role is Role.DEVICE:
        return up[name]
    return up.get(name, True) and any(reaches(hierarchy, up, sender, name) for sender in node.all_senders)


CASES = {
    **{letter: Topology.figure_2(letter, 3) for letter in "acef"},
    "unlike": Topology.from_yaml(UNLIKE),
    "skipping": Topology.from_yaml(SKIPPING),
    "all skips": Topology.from_yaml(CAMERAS).with_skips(),
}


@pytest.mark.parametrize("name", CASES)
def test_who_is_heard_whatever_fails(name: str) -> None:
    hierarchy = CASES[name].hierarchy
    present = np.random.default_rng(0).random((60, len(hierarchy.failable))) < 0.6
    heard = hierarchy.heard(present)
    for sample, row in enumerate(present):
        up = dict(zip(hierarchy.failable_names, map(bool, row), strict=True))
        for node in hierarchy.nodes:
            assert heard.nodes[node.name][sample] == speaks(hierarchy, up, node.name)
        for node in hierarchy.receivers:
            found = [mask[sample] for mask in heard.senders[node.name]]
            assert found == [reaches(hierarchy, up, sender, node.name) for sender in node.all_senders]
