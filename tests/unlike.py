"""A hierarchy of everything at once, for tests."""

from __future__ import annotations

UNLIKE = """
devices:
- {name: camera, count: 2, input: [8, 6, 3], filters: [4]}
- {name: microphone, input: [10, 1], filters: [3, 2]}
- {name: co2, input: [2], units: [16]}
local:
- {name: site_a, devices: [camera]}
- {name: site_b, devices: [microphone, co2], aggregation: CC}
edges:
- {name: edge_a, senders: [camera], filters: [8], aggregation: MP}
- {name: edge_b, senders: [microphone, co2], adapter: [4, 3], filters: [8], aggregation: AP}
- {name: hall, senders: [edge_a, edge_b], adapter: [24], units: [16], exit: false, tier: gateway}
cloud: {units: [32], hidden: [8]}
classes: 4
"""
"""Images, a series and a vector; two sites; two levels of edges, the upper one without an exit."""
