"""Who exits where, without a network: what each sample needs next, and what comes of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping

import numpy as np
import pytest
from numpy.typing import NDArray
from skipping import CAMERAS, SKIPPING
from unlike import UNLIKE

from ddnn_tf.calibration import Calibration, CalibrationOfSet, scaled
from ddnn_tf.communication import bytes_per_link
from ddnn_tf.exits import most_confident, softmax, staged_inference
from ddnn_tf.hierarchy import Hierarchy, Node, Role
from ddnn_tf.offload import bytes_of_asked, ranked_devices, surest
from ddnn_tf.runtime.policy import Policy, Progress, Report, Step, is_unsure, peers_of
from ddnn_tf.topology import Topology

CHAIN = """
devices: {count: 2, input: [8, 8, 1], filters: [2]}
edges:
- {name: low, senders: [device], filters: [4]}
- {name: middle, senders: [low], filters: [4]}
- {name: high, senders: [middle], units: [8]}
cloud: {units: [8]}
classes: 3
"""
"""Three levels of edges, one above the other, an exit at each."""

VECTORS = """
devices: {count: 2, input: [8, 8, 1], filters: [2]}
edges:
- {name: low, senders: [device], units: [8]}
- {name: middle, senders: [low], adapter: [8], units: [8]}
- {name: high, senders: [middle], units: [8]}
cloud: {units: [8]}
classes: 3
"""
"""The same in vectors, which go past an edge as well."""

SILENT = CHAIN.replace("filters: [4]}\n- {name: high", "filters: [4], exit: false}\n- {name: high")
"""`CHAIN` with an edge in the middle that has no exit."""

SITES = """
devices: {count: 4, input: [8, 8, 1], filters: [2]}
local:
- {name: site_a, devices: [device_0, device_1]}
- {name: site_b, devices: [device_2, device_3]}
cloud: {filters: [4]}
classes: 3
"""
"""Two local aggregators under one cloud."""

UNBALANCED = """
devices:
- {name: camera, count: 2, input: [8, 8, 1], filters: [2]}
- {name: direct, input: [8, 8, 1], filters: [2]}
- {name: raw, input: [8, 8, 1]}
local: {devices: [camera, direct]}
edges:
- {name: near, senders: [camera_0], filters: [4]}
- {name: far, senders: [camera_1], filters: [4], exit: false}
- {name: hall, senders: [near], units: [8]}
cloud: {adapter: [8], units: [8]}
classes: 3
"""
"""Edges of two levels, one without an exit, and devices that send to the cloud, one of them raw."""

TOPOLOGIES = {
    **{letter: Topology.figure_2(letter, 3, image_shape=(8, 8, 1)) for letter in "abcdef"},
    **{
        name: Topology.from_yaml(text)
        for name, text in (
            ("chain", CHAIN), ("silent", SILENT), ("sites", SITES), ("unbalanced", UNBALANCED),
            ("unlike", UNLIKE), ("skipping", SKIPPING),
        )
    },
    "six cameras": Topology.from_yaml(CAMERAS).with_skips(),
    "chain with skips": Topology.from_yaml(VECTORS).with_skips(),
}  # fmt: skip

SURE, UNSURE = np.array([[9.0, 0, 0]], np.float32), np.zeros((1, 3), np.float32)
Answers = Callable[[Node], NDArray[np.float32] | None]


def start(name: str, threshold: float = 0.5, without: tuple[str, ...] = ()) -> Progress:
    hierarchy = TOPOLOGIES[name].hierarchy
    devices = [device for device in hierarchy.device_names if device not in without]
    return Policy(hierarchy).start(dict.fromkeys(hierarchy.early_tier_names, threshold), devices)


def logits_of(node: Node, logits: NDArray[np.float32]) -> NDArray[np.float32] | None:
    return None if node.exit is None else logits


def walk(
    hierarchy: Hierarchy,
    progress: Progress,
    answer: Answers,
    thresholds: Mapping[str, float],
    down: Collection[str] = (),
    asked: tuple[str, ...] | None = None,
) -> list[Step]:
    """Lets every node answer that is asked and up, and passes on what an edge passes on by itself."""
    chains = Policy(hierarchy).chains
    steps = []
    while (step := progress.next()) is not None:
        steps.append(step)
        reports = []
        problems = []
        for name, senders in step.ask.items():
            for node in chains[name]:
                if node in down:
                    problems.append(f"{node}: unavailable")
                    break
                logits = answer(hierarchy[node])
                is_local = hierarchy[node].role is Role.LOCAL
                reports.append(Report(node, senders, logits, asked=asked if is_local else None))
                tier = hierarchy.tier_of(hierarchy[node]).name
                senders = (node,)
                if logits is None or tier not in thresholds or not is_unsure(logits[0], thresholds[tier]):
                    break
        progress.hear(reports, problems)
    return steps


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_any_exits_any_devices_any_thresholds_as_in_staged_inference(name: str) -> None:
    """Equal to `exits.staged_inference` and to the bytes of Eq. (1), whoever is absent and sure."""
    topology = TOPOLOGIES[name]
    hierarchy, policy = topology.hierarchy, Policy(topology.hierarchy)
    random = np.random.default_rng(0)
    exits_used = set()
    for _ in range(300):
        present = [device for device in hierarchy.device_names if random.random() < 0.7]
        logits = {
            exit_.name: random.normal(0, 3, (1, topology.classes)).astype("f4") for exit_ in hierarchy.exits
        }
        thresholds = dict(zip(hierarchy.early_tier_names, random.random(9), strict=False))
        progress = policy.start(thresholds, present)
        steps = walk(hierarchy, progress, lambda node, logits=logits: logits.get(node.name), thresholds)
        if not present:
            assert progress.is_without_devices
            assert not steps
            continue
        numbers = {hierarchy.device_names.index(device) for device in present}
        heard = {
            node.name: bool(numbers & set(hierarchy.devices_below(node.name))) for node in hierarchy.receivers
        }
        tiers = [
            most_confident(
                [softmax(logits[exit_.name]) for exit_ in tier.exits],
                [[heard[exit_.name] for exit_ in tier.exits]],
            )
            for tier in hierarchy.exit_tiers
        ]
        expected = staged_inference(tiers, list(thresholds.values()))
        outcome = progress.outcomes[-1]
        assert outcome.tier == hierarchy.exit_tier_names[expected.exits[0]]
        assert outcome.probabilities.argmax() == expected.labels[0]
        assert progress.reason == ""
        exits_used.add(outcome.tier)
        shares = [float(tier == outcome.tier) for tier in hierarchy.exit_tier_names]
        sent = {link: size for link, size in bytes_per_link(topology, shares).items() if size}
        if len(present) == len(hierarchy.devices):
            assert progress.payload == sent
        else:
            absent = {node.name for node in hierarchy.devices if node.name not in present}
            absent |= {node for node, is_heard in heard.items() if not is_heard}
            links = {link.name: link for link in hierarchy.links}
            assert progress.payload == {
                link: size for link, size in sent.items() if links[link].sender not in absent
            }
    assert exits_used == set(hierarchy.exit_tier_names)


def calibration_of(hierarchy: Hierarchy, random: np.random.Generator) -> Calibration:
    """Thresholds and temperatures at random for every set of present devices."""
    sets = []
    for number in range(len(hierarchy.devices), 0, -1):
        for devices in itertools.combinations(hierarchy.device_names, number):
            thresholds = dict(zip(hierarchy.early_tier_names, random.random(9), strict=False))
            temperatures = {tier: random.uniform(0.5, 2) for tier in hierarchy.exit_tier_names}
            sets.append(
                CalibrationOfSet(
                    devices=devices, temperatures=temperatures, thresholds=thresholds, entropies=(0.5,)
                )
            )
    return Calibration(risk=0.02, delta=0.1, samples=9, sets=tuple(sets))


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_a_calibrated_network_has_thresholds_and_temperatures_by_set_of_devices(name: str) -> None:
    """T is compared with the entropy before scaling; the answer is scaled; a device comes too late."""
    topology = TOPOLOGIES[name]
    hierarchy, random = topology.hierarchy, np.random.default_rng(0)
    policy = Policy(hierarchy, calibration_of(hierarchy, random))
    assert policy.calibration is not None
    for _ in range(100):
        present = [device for device in hierarchy.device_names if random.random() < 0.7]
        logits = {
            exit_.name: random.normal(0, 3, (1, topology.classes)).astype("f4") for exit_ in hierarchy.exits
        }
        if not present:
            continue
        entry = policy.calibration.of(present)
        calibrated, plain = policy.start({}, present), Policy(hierarchy).start(entry.thresholds, present)
        for progress in (calibrated, plain):
            walk(hierarchy, progress, lambda node, logits=logits: logits.get(node.name), entry.thresholds)
        assert calibrated.devices == frozenset(present)
        for ours, other in zip(calibrated.outcomes, plain.outcomes, strict=True):
            assert (ours.tier, ours.entropy, ours.members) == (other.tier, other.entropy, other.members)
            expected = scaled(other.probabilities, entry.temperatures[ours.tier])
            assert ours.probabilities == pytest.approx(expected)
        chosen = dict.fromkeys(hierarchy.early_tier_names, 0.0)
        stubborn = policy.start(chosen, present)
        walk(hierarchy, stubborn, lambda node, logits=logits: logits.get(node.name), chosen)
        assert stubborn.outcomes[-1].tier == plain.outcomes[-1].tier or len(plain.outcomes) < len(
            stubborn.outcomes
        )


def test_thresholds_are_those_of_the_devices_that_were_heard() -> None:
    hierarchy = TOPOLOGIES["sites"].hierarchy
    calibration = calibration_of(hierarchy, np.random.default_rng(1))
    progress = Policy(hierarchy, calibration).start({}, hierarchy.device_names)
    # A device is late, and a whole site does not answer.
    progress.hear([Report("site_b", ("device_3",), UNSURE)], ["site_a: unavailable"])
    assert progress.outcomes[0].devices == {"device_3"}
    # What is behind the site may still send to the cloud; who was late has nothing to send.
    assert progress.devices == {"device_0", "device_1", "device_3"}
    progress.hear([Report("cloud", ("device_0", "device_3"), SURE)])
    assert progress.outcomes[1].devices == {"device_0", "device_3"}
    temperature = calibration.of(["device_0", "device_3"]).temperatures["cloud"]
    assert progress.outcomes[1].probabilities == pytest.approx(scaled(softmax(SURE), temperature)[0])


def test_past_an_edge_that_is_down_a_device_is_heard_over_its_skip_link() -> None:
    hierarchy = TOPOLOGIES["skipping"].hierarchy
    policy, everyone = Policy(hierarchy), frozenset(hierarchy.device_names)
    assert policy.heard("high", everyone, ["low"]) == everyone
    assert policy.heard("high", everyone, ["near_1"]) == everyone - {"near_0"}
    assert policy.heard("high", everyone, []) == everyone - {"near_0", "near_1"}


@pytest.mark.parametrize("name", ["skipping", "six cameras", "chain with skips", "f", "unbalanced"])
def test_whichever_edges_fail_as_in_staged_inference_with_their_presence(name: str) -> None:
    """Each sample is answered as if its nodes had been masked, over skip links where there are any."""
    topology = TOPOLOGIES[name]
    hierarchy, policy = topology.hierarchy, Policy(topology.hierarchy)
    random = np.random.default_rng(0)
    skipped = 0
    for _ in range(300):
        present = random.random(len(hierarchy.failable)) < 0.7
        up = {node for node, is_up in zip(hierarchy.failable_names, present, strict=True) if is_up}
        heard = hierarchy.heard(present[None])
        logits = {
            exit_.name: random.normal(0, 3, (1, topology.classes)).astype("f4") for exit_ in hierarchy.exits
        }
        thresholds = dict(zip(hierarchy.early_tier_names, random.random(9), strict=False))
        progress = policy.start(thresholds, [name for name in hierarchy.device_names if name in up])
        down = set(hierarchy.failable_names) - up
        steps = walk(hierarchy, progress, lambda node, logits=logits: logits.get(node.name), thresholds, down)
        for node, senders in ((node, senders) for step in steps for node, senders in step.ask.items()):
            masks = zip(hierarchy[node].all_senders, heard.senders[node], strict=True)
            assert senders == tuple(sender for sender, mask in masks if mask[0])
        if not heard.nodes["cloud"][0]:
            assert not any(outcome.tier == "cloud" for outcome in progress.outcomes)
            continue
        tiers = [
            most_confident(
                [softmax(logits[exit_.name]) for exit_ in tier.exits],
                [[bool(heard.nodes[exit_.name][0]) for exit_ in tier.exits]],
            )
            for tier in hierarchy.exit_tiers
        ]
        expected = staged_inference(tiers, list(thresholds.values()))
        outcome = progress.outcomes[-1]
        assert outcome.tier == hierarchy.exit_tier_names[expected.exits[0]]
        assert outcome.probabilities.argmax() == expected.labels[0]
        assert progress.reason == ""
        shares = [float(tier == outcome.tier) for tier in hierarchy.exit_tier_names]
        sent = bytes_per_link(topology, shares, present[None])
        assert progress.payload == {link: size for link, size in sent.items() if size}
        skipped += any(step.past for step in steps)
    assert bool(skipped) is any(node.skips for node in hierarchy.nodes)


@pytest.mark.parametrize("name", ["c", "e", "f", "chain", "unbalanced", "skipping"])
def test_only_the_surest_devices_are_asked_as_in_evaluation(name: str) -> None:
    """Each sample is answered as if the others were absent above the local exit, with those bytes."""
    topology = TOPOLOGIES[name]
    hierarchy, policy = topology.hierarchy, Policy(topology.hierarchy)
    ranked, devices = ranked_devices(hierarchy), hierarchy.device_names
    random = np.random.default_rng(0)
    went_on = 0
    for _ in range(200):
        number = int(random.integers(1, len(ranked) + 1))
        up = {device for device in devices if random.random() < 0.8}
        vectors = {device: random.normal(0, 3, (1, topology.classes)) for device in ranked if device in up}
        if not vectors:
            continue
        logits = {
            exit_.name: random.normal(0, 3, (1, topology.classes)).astype("f4") for exit_ in hierarchy.exits
        }
        thresholds = dict(zip(hierarchy.early_tier_names, random.random(9), strict=False))
        progress = policy.start(thresholds, [device for device in devices if device in up])
        chosen = surest(vectors, number)
        walk(hierarchy, progress, lambda node, logits=logits: logits.get(node.name), thresholds, asked=chosen)
        present = np.array([[device in up for device in devices]])
        asked = np.array(
            [[(device in up and device not in ranked) or device in chosen for device in devices]]
        )
        heard = hierarchy.heard(asked).nodes
        tiers = [
            softmax(logits["local"])
            if tier.name == "local"
            else most_confident(
                [softmax(logits[exit_.name]) for exit_ in tier.exits],
                [[bool(heard[exit_.name][0]) for exit_ in tier.exits]],
            )
            for tier in hierarchy.exit_tiers
        ]
        expected = staged_inference(tiers, list(thresholds.values()))
        outcome = progress.outcomes[-1]
        assert outcome.tier == hierarchy.exit_tier_names[expected.exits[0]]
        assert outcome.probabilities.argmax() == expected.labels[0]
        assert progress.reason == ""
        sent = bytes_of_asked(topology, expected.exits, asked, present)
        assert progress.payload == {link: size for link, size in sent.items() if size}
        went_on += outcome.tier != "local"
    assert went_on


def test_past_an_edge_that_did_not_answer_its_senders_send_to_its_receiver() -> None:
    progress = start("skipping")
    assert Policy(TOPOLOGIES["skipping"].hierarchy).chains["high"] == ("high",)
    steps = walk(
        TOPOLOGIES["skipping"].hierarchy, progress, lambda node: logits_of(node, UNSURE), {}, ("low", "side")
    )
    assert [set(step.ask) for step in steps] == [{"local"}, {"low", "side"}, {"high"}, {"cloud"}]
    assert [set(step.past) for step in steps] == [set(), set(), {"near_1"}, {"far_0"}]
    assert [step.order for step in steps][2:] == [("near_1",), ("direct", "far_0")]
    assert [step.forward for step in steps][2:] == [(), ("high",)]
    assert progress.reason == ""


def test_a_device_is_ordered_when_its_receiver_is_asked_and_not_before() -> None:
    hierarchy = TOPOLOGIES["unbalanced"].hierarchy
    assert [tier.name for tier in hierarchy.tiers] == ["local", "edge", "edge_level_2", "cloud"]
    steps = walk(hierarchy, start("unbalanced"), lambda node: logits_of(node, UNSURE), {})
    assert [step.order for step in steps] == [
        ("camera_0", "camera_1", "direct"), ("camera_0", "camera_1"), (), ("direct", "raw")
    ]  # fmt: skip
    assert [set(step.forward) for step in steps] == [set(), set(), {"near"}, {"far", "hall"}]
    assert [set(step.ask) for step in steps] == [{"local"}, {"near", "far"}, {"hall"}, {"cloud"}]
    assert set(steps[-1].ask["cloud"]) == {"direct", "raw", "far", "hall"}
    assert [step.takes_class_vectors for step in steps] == [True, False, False, False]


def test_several_sites_are_asked_like_edges_and_the_surest_speaks() -> None:
    progress = start("sites")
    step = progress.next()
    assert step is not None
    assert step.takes_class_vectors
    assert dict(step.ask) == {"site_a": ("device_0", "device_1"), "site_b": ("device_2", "device_3")}
    progress.hear([Report("site_b", ("device_3",), SURE), Report("site_a", ("device_0", "device_1"), UNSURE)])
    assert progress.next() is None
    assert progress.outcomes[0].members == ("device_0", "device_1", "device_3")
    assert progress.outcomes[0].probabilities.argmax() == 0
    assert progress.payload == {
        "device_0 -> site_a": 12, "device_1 -> site_a": 12, "device_3 -> site_b": 12,
        "site_a -> aggregator": 12, "site_b -> aggregator": 12,
    }  # fmt: skip


def test_devices_of_a_dead_site_still_send_their_feature_maps() -> None:
    progress = start("sites")
    progress.hear([Report("site_b", ("device_3",), UNSURE)], ["site_a: unavailable"])
    step = progress.next()
    assert step is not None
    assert step.ask["cloud"] == ("device_0", "device_1", "device_3")
    progress.hear([Report("cloud", ("device_0", "device_3"), UNSURE)])
    assert progress.next() is None
    assert progress.reason == ""  # the highest tier has answered


def test_a_site_that_nobody_reached_says_nothing() -> None:
    progress = start("sites", without=("device_0",))
    progress.hear([Report("site_a", ()), Report("site_b", ("device_2",), UNSURE)])
    step = progress.next()
    assert step is not None
    assert step.ask["cloud"] == ("device_2",)
    assert progress.outcomes[0].members == ("device_2",)


def test_an_edge_that_passes_on_reports_for_the_whole_chain() -> None:
    assert Policy(TOPOLOGIES["chain"].hierarchy).chains["low"] == ("low", "middle", "high", "cloud")
    progress = start("chain")
    progress.hear([Report("local", ("device_0", "device_1"), UNSURE)])
    progress.hear([Report("low", ("device_1",), UNSURE), Report("middle", ("low",), SURE)])
    assert progress.next() is None
    assert [outcome.tier for outcome in progress.outcomes] == ["local", "edge", "edge_level_2"]
    assert "middle -> high" not in progress.payload
    assert progress.reason == ""


def test_a_chain_that_breaks_is_degraded_and_not_asked_again() -> None:
    progress = start("chain")
    progress.hear([Report("local", ("device_0",), UNSURE)])
    progress.hear([Report("low", ("device_0",), UNSURE)], ["middle: unavailable"])
    assert progress.next() is None
    assert progress.reason == "middle: unavailable"
    assert progress.outcomes[-1].tier == "edge"


def test_an_edge_without_an_exit_computes_and_forwards() -> None:
    policy = Policy(TOPOLOGIES["silent"].hierarchy)
    assert policy.chains["low"] == ("low", "middle")
    assert policy.chains["middle"] == ("middle",)
    assert policy.askers["middle"] == ("aggregator", "low")
    assert policy.askers["high"] == ("aggregator",)
    progress = start("silent")
    progress.hear([Report("local", ("device_0", "device_1"), UNSURE)])
    progress.hear([Report("low", ("device_0", "device_1"), UNSURE), Report("middle", ("low",))])
    step = progress.next()
    assert step is not None
    assert (step.order, step.forward, dict(step.ask)) == ((), ("middle",), {"high": ("middle",)})
    assert [outcome.tier for outcome in progress.outcomes] == ["local", "edge"]


def test_without_the_cloud_the_highest_exit_speaks_and_says_why() -> None:
    for name in "cf":
        hierarchy = TOPOLOGIES[name].hierarchy
        progress = start(name)
        while (step := progress.next()) is not None:
            if "cloud" in step.ask:
                progress.hear([], ["cloud: deadline_exceeded"])
            else:
                progress.hear([Report(node, senders, UNSURE) for node, senders in step.ask.items()])
        assert progress.reason == "cloud: deadline_exceeded"
        assert progress.outcomes[-1].tier == hierarchy.early_tier_names[-1]


def test_a_dead_edge_takes_its_devices_out_and_degrades_nothing() -> None:
    progress = start("f")
    names = TOPOLOGIES["f"].hierarchy.device_names
    progress.hear([Report("local", names, UNSURE)])
    progress.hear(
        [Report("edge_1", TOPOLOGIES["f"].hierarchy["edge_1"].senders, UNSURE)], ["edge_0: unavailable"]
    )
    step = progress.next()
    assert step is not None
    assert (step.forward, dict(step.ask)) == (("edge_1",), {"cloud": ("edge_1",)})
    progress.hear([Report("cloud", ("edge_1",), UNSURE)])
    assert progress.reason == ""


def test_when_all_edges_fail_their_reasons_are_told() -> None:
    progress = start("f")
    progress.hear([Report("local", ("device_0",), UNSURE)])
    progress.hear([], ["edge_0: unavailable", "edge_1: unavailable"])
    assert progress.next() is None
    assert progress.reason == "edge_0: unavailable; edge_1: unavailable"


def test_nobody_there_is_told_apart_from_nobody_answering() -> None:
    devices = TOPOLOGIES["c"].hierarchy.device_names
    assert start("c", without=devices).is_without_devices
    silent = start("c")
    silent.hear([Report("local", ())])
    assert silent.next() is None
    assert silent.is_without_devices
    failed = start("a")
    failed.hear([], ["cloud: unavailable"])
    assert failed.next() is None
    assert not failed.is_without_devices
    assert (failed.outcomes, failed.reason) == ([], "cloud: unavailable")


def test_who_has_a_skip_link_calls_its_receiver_too() -> None:
    hierarchy = TOPOLOGIES["skipping"].hierarchy
    assert peers_of(hierarchy, "near_1") == ("aggregator", "low", "high")
    assert peers_of(hierarchy, "near_0") == ("aggregator", "low")
    assert peers_of(hierarchy, "low") == ("high", "cloud")


def test_who_calls_whom() -> None:
    hierarchy = TOPOLOGIES["unlike"].hierarchy
    assert peers_of(hierarchy, "camera_0") == ("aggregator", "site_a", "edge_a")
    assert peers_of(hierarchy, "edge_a") == ("hall",)
    assert peers_of(hierarchy, "site_a") == peers_of(hierarchy, "cloud") == ()
    assert peers_of(hierarchy, "aggregator") == ("site_a", "site_b", "edge_a", "edge_b", "hall", "cloud")
    assert peers_of(TOPOLOGIES["c"].hierarchy, "device_0") == ("aggregator", "cloud")
    called = {peer for process in hierarchy.process_names for peer in peers_of(hierarchy, process)}
    assert called == set(hierarchy.process_names) - set(hierarchy.device_names)
    assert all(
        set(policy.askers[node.name]) <= {"aggregator", *node.senders}
        for topology in TOPOLOGIES.values()
        for policy in [Policy(topology.hierarchy)]
        for node in topology.hierarchy.receivers
    )


def test_what_each_node_receives_is_in_the_order_of_its_senders() -> None:
    for topology in TOPOLOGIES.values():
        hierarchy, policy = topology.hierarchy, Policy(topology.hierarchy)
        for node in hierarchy.receivers:
            assert tuple(policy.specs[node.name]) == node.all_senders
            for sender, spec in policy.specs[node.name].items():
                sent = hierarchy[sender]
                assert spec == (sent.class_vector if node.role is Role.LOCAL else sent.output)


def test_thresholds_at_their_ends() -> None:
    for threshold, logits in itertools.product((0.0, 1.0), (SURE, UNSURE)):
        progress = start("c", threshold)
        progress.hear([Report("local", ("device_0",), logits)])
        assert (progress.next() is None) == (threshold == 1.0)
