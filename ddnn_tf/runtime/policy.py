"""Who exits where: what a sample needs next, decided without a network.

`Progress` is one sample on its way up a hierarchy. Its `next` says which devices to order, which nodes to ask
with which senders, and which to tell to forward; `hear` takes what they report. Nothing here waits, sends or
runs a section, so every case can be tested on plain values:

    >>> from ddnn_tf.topology import Topology
    >>> from ddnn_tf.topology import Topology
    >>> hierarchy = Topology.devices_cloud(devices=2).hierarchy
    >>> progress = Policy(hierarchy).start({"local": 0.5}, hierarchy.device_names)
    >>> step = progress.next()
    >>> step.tier.name, step.order, dict(step.ask)
    ('local', ('device_0', 'device_1'), {'local': ('device_0', 'device_1')})
    >>> progress.hear([Report("local", ("device_1",), np.zeros((1, 3), np.float32))])
    >>> progress.payload, progress.outcomes[-1].entropy
    ({'device_1 -> local': 12}, 1.0)
    >>> dict(progress.next().ask)
    {'cloud': ('device_1',)}

A sample goes up tier by tier. At the lowest tier the devices send class vectors; at each tier above, the
devices and edges right below it send their feature maps. Several exits of a tier speak through the surest.
The sample leaves at the first tier that is confident, as in `exits.staged_inference`; a device or edge that
does not answer counts as absent. Past an edge that did not answer, its senders send to its receiver where a
skip link leads there.

Source: Teerapittayanon et al. 2017, Section III-D.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddnn_tf.calibration import Calibration, scaled
from ddnn_tf.exits import is_confident, most_confident, normalized_entropy, softmax
from ddnn_tf.hierarchy import AGGREGATOR, Hierarchy, Node, Payload, Role, Tier, link_name
from ddnn_tf.specs import Spec

__all__ = ["Outcome", "Policy", "Progress", "Report", "Step", "is_unsure", "peers_of"]


@dataclass(frozen=True)
class Step:
    """What to do next for a sample; all of it at once.

    Attributes:
        tier: The tier that is to decide.
        order: Devices to order: to send their class vectors if the tier is that of local aggregators, else
            their feature maps.
        forward: Nodes to tell to send the feature map that they have computed.
        past: Those of both that are to send over their skip link, past their receiver, which is down.
        ask: The nodes to ask, each with the senders that it is to hear.
    """

    tier: Tier
    order: tuple[str, ...]
    forward: tuple[str, ...]
    past: frozenset[str]
    ask: Mapping[str, tuple[str, ...]]

    @property
    def takes_class_vectors(self) -> bool:
        """Whether the devices send class vectors rather than feature maps."""
        return all(node.role is Role.LOCAL for node in self.tier.nodes)


@dataclass(frozen=True)
class Report:
    """What a node made of a sample.

    Attributes:
        node: Its name.
        senders: Those that it heard, in its order; none if nothing reached it.
        logits: `(1, classes)` float32 of its exit; None if it has none, or heard nobody.
        seconds: Time that it took, from the moment that it was asked.
        asked: Of a local aggregator: those senders that alone are to be asked for their feature maps if the
            sample goes on (`ddnn_tf.offload`); None: all.
    """

    node: str
    senders: tuple[str, ...]
    logits: NDArray[np.float32] | None = None
    seconds: float = 0.0
    asked: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Outcome:
    """What the exits of a tier say of a sample.

    Attributes:
        tier: Name of the tier.
        probabilities: `(classes,)` float64 of the surest exit; scaled, if the network is calibrated.
        entropy: Normalized entropy of its own probabilities, before scaling, 0..1: what T is compared with.
        members: The senders that took part.
        devices: The devices that took part, without those that the tier should have heard and did not.
        seconds: Time that the slowest exit took.
    """

    tier: str
    probabilities: NDArray[np.float64]
    entropy: float
    members: tuple[str, ...]
    devices: frozenset[str]
    seconds: float


class Policy:
    """What the processes of a hierarchy need to know of it for every sample, looked up once.

    Args:
        hierarchy: The hierarchy.
        calibration: Thresholds and temperatures by set of present devices, if the network was exported with.

    Attributes:
        specs: What each node above the devices receives, by node and sender (or skip sender) in the node's
            order.
        chains: The nodes that a verdict of a node may report of: the node itself, and those that are asked in
            turn, because each asks its receiver by itself (`Hierarchy.passes_on`).
        askers: Names of the processes that may ask a node to decide.
        reporting: Nodes that tell the coordinator their class vector, because another may be surer.
    """

    def __init__(self, hierarchy: Hierarchy, calibration: Calibration | None = None) -> None:
        self.hierarchy, self.calibration = hierarchy, calibration
        sent = {
            (link.receiver, link.sender): link.spec
            for link in hierarchy.links
            if link.carries is not Payload.REPORT
        }
        self.specs: dict[str, dict[str, Spec]] = {
            node.name: {sender: sent[node.name, sender] for sender in node.all_senders}
            for node in hierarchy.receivers
        }
        self.chains = {node.name: _chain(hierarchy, node) for node in hierarchy.receivers}
        self.askers = {
            node.name: (AGGREGATOR, *(name for name in node.senders if len(self.chains.get(name, ())) > 1))
            for node in hierarchy.receivers
        }
        names = hierarchy.device_names
        self._behind = {
            node.name: frozenset(names[number] for number in hierarchy.devices_below(node.name))
            for node in hierarchy.nodes
        }
        self.reporting = frozenset(node.name for node in hierarchy.receivers if hierarchy.reports(node))

    def start(self, thresholds: Mapping[str, float], devices: Iterable[str]) -> Progress:
        """A sample before its first step.

        Args:
            thresholds: T by tier, for all tiers but the last; of a calibrated network only those that go
                before the calibration's.
            devices: The devices that are there.
        """
        return Progress(self, thresholds, devices)

    def thresholds(self, chosen: Mapping[str, float], devices: Iterable[str]) -> Mapping[str, float]:
        """T by tier with a set of devices present.

        Args:
            chosen: T by tier that go before the calibration's.
            devices: Names of the devices.
        """
        return chosen if self.calibration is None else {**self.calibration.of(devices).thresholds, **chosen}

    def heard(self, name: str, devices: Iterable[str], senders: Iterable[str]) -> frozenset[str]:
        """The devices that are present as a node sees it: without those that it should have heard itself.

        Args:
            name: Name of the node.
            devices: Names of the devices that are present as far as is known below.
            senders: Names of the senders that it heard.
        """
        behind = {device for sender in senders for device in self._behind[sender]}
        return frozenset(devices) - (self._behind[name] - behind)


class Progress:
    """One sample on its way up; made by `Policy.start`.

    Attributes:
        outcomes: What the tiers said so far, lowest first.
        payload: Bytes of the payloads that arrived so far, by link.
        devices: The devices that take part in this sample, as far as is known.
    """

    def __init__(self, policy: Policy, thresholds: Mapping[str, float], devices: Iterable[str]) -> None:
        self._policy, self._thresholds = policy, thresholds
        # Those whose output can be had: devices that are there, and nodes that have computed a feature map.
        self.devices = frozenset(devices)
        self._able = set(self.devices)
        self._level = 0
        self._is_settled = False
        self._step: Step | None = None  # what is being done
        self._problems: list[str] = []
        self.outcomes: list[Outcome] = []
        self.payload: dict[str, int] = {}

    def next(self) -> Step | None:
        """What to do next; None if the sample leaves, or nobody above can be asked."""
        if self._step is None and not self._is_settled:
            self._step = self._next()
        return self._step

    def hear(self, reports: Iterable[Report], problems: Iterable[str] = ()) -> None:
        """Takes what came of the next step.

        Args:
            reports: Of the nodes that were asked, and of those that these asked in turn.
            problems: Why others did not report, in words.
        """
        step = self.next()
        if step is None:
            return
        self._step = None
        self._level = step.tier.level
        self._problems += problems
        by_node = {report.node: report for report in reports}
        for tier in self._policy.hierarchy.tiers:
            heard = [by_node[node.name] for node in tier.nodes if node.name in by_node]
            if heard:
                self._level = max(self._level, tier.level)
                self._take(tier, heard)

    @property
    def reason(self) -> str:
        """Why a lower tier answers than should; empty if the right one does."""
        if self._is_settled:
            return ""
        return "; ".join(self._problems) or "nobody above could be asked"

    @property
    def is_without_devices(self) -> bool:
        """Whether no device has taken part, and no tier failed."""
        return not self.outcomes and not self._problems

    def _next(self) -> Step | None:
        hierarchy = self._policy.hierarchy
        for tier in hierarchy.tiers:
            if tier.level <= self._level:
                continue
            possible = {node.name: self._senders(node) for node in tier.nodes}
            ask = {name: senders for name, senders in possible.items() if senders}
            if ask:
                asked = [hierarchy[sender] for senders in ask.values() for sender in senders]
                devices = tuple(node.name for node in asked if node.role is Role.DEVICE)
                edges = tuple(node.name for node in asked if node.role is not Role.DEVICE)
                past = frozenset(
                    sender
                    for name, senders in ask.items()
                    for sender in senders
                    if sender in hierarchy[name].skips
                )
                return Step(tier, devices, edges, past, ask)
        return None

    def _senders(self, node: Node) -> tuple[str, ...]:
        hierarchy, able = self._policy.hierarchy, self._able
        past = [skip for skip in node.skips if hierarchy[skip].receiver not in able]
        return tuple(sender for sender in (*node.senders, *past) if sender in able)

    def _take(self, tier: Tier, reports: Sequence[Report]) -> None:
        policy, hierarchy = self._policy, self._policy.hierarchy
        speaking: list[tuple[Report, NDArray[np.float64]]] = []
        for report in reports:
            node, specs = hierarchy[report.node], policy.specs[report.node]
            self.devices = policy.heard(node.name, self.devices, report.senders)
            self.payload |= {link_name(sender, node.name): specs[sender].size for sender in report.senders}
            if node.role is Role.LOCAL:
                # Who has no class vector of this sample has no feature map of it either.
                self._able -= set(node.senders) - set(report.senders)
            elif report.senders and len(policy.chains[node.name]) == 1:
                # A node that passes on by itself has sent its feature map already, or need not.
                self._able.add(node.name)
            if report.logits is not None:
                speaking.append((report, softmax(report.logits)))
                if node.name in policy.reporting:
                    link = link_name(node.name, hierarchy.coordinator)
                    self.payload[link] = hierarchy.class_vector.size
        if speaking:
            # Those behind a node that did not report may yet be heard past it: only this tier lacks them.
            devices = self.devices
            for silent in {node.name for node in tier.nodes} - {report.node for report in reports}:
                devices = policy.heard(silent, devices, ())
            self._conclude(tier, speaking, devices)
        # To the tiers above, those that are not asked are absent.
        for report in reports:
            if report.asked is not None:
                unasked = set(report.senders) - set(report.asked)
                self._able -= unasked
                self.devices -= unasked

    def _conclude(
        self,
        tier: Tier,
        speaking: Sequence[tuple[Report, NDArray[np.float64]]],
        devices: frozenset[str],
    ) -> None:
        """The surest exit speaks for the tier; if it is confident, or the last, the sample leaves."""
        several = [probabilities for _, probabilities in speaking]
        probabilities = (several[0] if len(several) == 1 else most_confident(several))[0]
        entropy = float(normalized_entropy(probabilities))
        members = tuple(sender for report, _ in speaking for sender in report.senders)
        seconds = max(report.seconds for report, _ in speaking)
        policy = self._policy
        if policy.calibration is not None:
            temperature = policy.calibration.of(devices).temperatures[tier.name]
            probabilities = scaled(probabilities, temperature)
        self.outcomes.append(Outcome(tier.name, probabilities, entropy, members, devices, seconds))
        if tier is policy.hierarchy.exit_tiers[-1]:
            self._is_settled = True
        else:
            limit = policy.thresholds(self._thresholds, devices)[tier.name]
            self._is_settled = bool(is_confident(entropy, limit))


def is_unsure(logits: NDArray[np.float32], threshold: float) -> bool:
    """Whether a sample goes on after an exit that is alone in its tier.

    Args:
        logits: `(classes,)` float32 of the exit.
        threshold: T of its tier.
    """
    return not is_confident(normalized_entropy(softmax(logits)), threshold)


def peers_of(hierarchy: Hierarchy, process: str) -> tuple[str, ...]:
    """Names of the processes that a process calls.

    A device calls the aggregator, the receiver of its feature map, and its local aggregator where that is a
    process of its own; the aggregator calls all nodes above the devices; an edge calls its receiver. Who has
    a skip link calls the receiver there too.
    """
    if process == AGGREGATOR:
        return tuple(node.name for node in hierarchy.uppers)
    node = hierarchy[process]
    named = (node.aggregator, node.receiver, node.skip_receiver)
    receivers = [hierarchy.process_of(name) for name in named if name is not None]
    return tuple(dict.fromkeys([AGGREGATOR, *receivers] if node.role is Role.DEVICE else receivers))


def _chain(hierarchy: Hierarchy, node: Node) -> tuple[str, ...]:
    names = [node.name]
    while hierarchy.passes_on(node) and node.receiver is not None:
        node = hierarchy[node.receiver]
        names.append(node.name)
    return tuple(names)
