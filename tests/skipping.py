"""Hierarchies with skip links."""

from __future__ import annotations

from ddnn_tf.topology import Topology

SKIPPING = """
devices:
- {name: near, count: 2, input: [8, 6, 1], filters: [4]}
- {name: far, count: 2, input: [8, 6, 1], filters: [4]}
- {name: direct, input: [8, 6, 1], filters: [4]}
edges:
- {name: low, senders: [near], filters: [4]}
- {name: side, senders: [far], filters: [4]}
- {name: high, senders: [low], skips: [near_1], adapter: [16], units: [16]}
cloud: {skips: [low, far_0], adapter: [16], units: [16]}
classes: 4
"""
"""Two levels of edges; one device of each edge, and the lower edge, can send past their receiver."""

CAMERAS = """
devices: {name: camera, count: 6, input: [32, 32, 3], filters: [4]}
edges:
- {name: edge1, senders: [camera_0, camera_1], adapter: [32], units: [32], exit: false}
- {name: edge2, senders: [camera_2], adapter: [32], units: [32], exit: false}
- {name: edge3, senders: [camera_3, camera_4], adapter: [32], units: [32], exit: false}
- {name: edge4, senders: [camera_5], adapter: [32], units: [32], exit: false}
- {name: fog3, senders: [edge1], adapter: [32], units: [32], exit: false}
- {name: fog4, senders: [edge2, edge3, edge4], adapter: [32], units: [32], exit: false}
- {name: fog2, senders: [fog3, fog4], units: [32], exit: false}
- {name: fog1, senders: [fog2], units: [32], exit: false}
cloud: {units: [32]}
classes: 3
"""
"""The wiring of ResiliNet's camera experiment: eight nodes that may fail between cameras and cloud."""


def skipping(scheme: str = "CC", precision: str = "binary") -> Topology:
    """`SKIPPING` with an aggregation scheme, which also the adapted maps are joined by."""
    made = Topology.from_yaml(SKIPPING)
    upper = {"aggregation": scheme, "precision": precision}
    edges = [edge.model_copy(update=upper) for edge in made.edges]
    return made.replace(edges=edges, cloud=made.cloud.model_copy(update=upper))
