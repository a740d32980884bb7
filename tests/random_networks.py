"""Bundles of untrained networks, all of whose exits are used; and what the evaluation module says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ddnn_tf.bundle import Bundle, write_bundle
from ddnn_tf.calibration import Calibration, CalibrationOfSet
from ddnn_tf.datasets import DataSource, MultiViewDataset
from ddnn_tf.evaluation.accuracy import tier_probabilities
from ddnn_tf.evaluation.trial import subsets
from ddnn_tf.exits import StagedResult, normalized_entropy, staged_inference
from ddnn_tf.export import TARGETS
from ddnn_tf.network import build, with_presence
from ddnn_tf.sections import cut
from ddnn_tf.topology import Topology

SHARE = 0.4
"""Of the samples that reach an exit, those that leave there."""


class RandomNetwork:
    """An untrained network with its bundle.

    Args:
        topology: Its hierarchy.
        data: Whose test samples it classifies.
        source: Where they come from.
        seed: Of its weights.
        targets: What its sections are converted to; none for the engine `keras`.
    """

    def __init__(
        self,
        topology: Topology,
        data: MultiViewDataset,
        source: DataSource,
        seed: int = 0,
        targets: Sequence[str] = ("tflite",),
    ) -> None:
        self.topology, self.data = topology, data
        tf.keras.utils.set_random_seed(seed)
        self.model = build(topology)
        self._spread(np.random.default_rng(seed))
        self.masked = with_presence(self.model, topology)
        self.views = data.with_devices(topology.hierarchy.device_names).part("test")
        self.samples = len(data.split["test"])
        self.thresholds = self._thresholds()
        sections = cut(self.model, topology, check_inputs=False)  # made-up statistics
        artefacts = [
            TARGETS[target].convert(section, {}) for target in targets for section in sections.values()
        ]
        self.sections = sections
        self.bundle = Bundle(
            source, data.digest(), topology, self.thresholds, {}, self.model.get_weights(), artefacts, [],
            data.class_names,
        )  # fmt: skip

    def with_c(self, devices: list[str]) -> Bundle:
        """The bundle with C for some devices."""
        artefacts = list(self.bundle.artefacts)
        for name in devices:
            artefacts.append(TARGETS["c"].convert(self.sections[name], {name: self.views[name][:2]}))
        return Bundle(
            self.bundle.source, self.bundle.data_sha256, self.topology, self.thresholds, {},
            self.bundle.weights, artefacts, [],
        )  # fmt: skip

    def write(self, path: Path) -> Path:
        """Writes the bundle."""
        write_bundle(self.bundle, path)
        return path

    def staged(self, rows: NDArray[np.int64], present: NDArray[np.bool_]) -> StagedResult:
        """What the evaluation module says of some test samples with some devices."""
        views = {device: view[rows] for device, view in self.views.items()}
        tiers = tier_probabilities(self.masked, self.topology, views, present)
        limits = [self.thresholds[tier] for tier in self.topology.hierarchy.early_tier_names]
        return staged_inference(list(tiers.values()), limits)

    def calibrated(self) -> Bundle:
        """The bundle with a calibration: for each set of devices random thresholds and temperatures."""
        hierarchy = self.topology.hierarchy
        random = np.random.default_rng(1)
        entries = []
        for missing in [(), *subsets(hierarchy.device_names)]:
            present = hierarchy.presence(missing, self.samples)
            if len(missing) == len(hierarchy.devices):
                continue
            tiers = tier_probabilities(self.masked, self.topology, self.views, present)
            thresholds = {}
            for tier in hierarchy.early_tier_names:
                values = np.unique(normalized_entropy(tiers[tier])).astype(np.float64)
                at = random.integers(len(values) - 1) if len(values) > 1 else 0
                thresholds[tier] = float(values[at : at + 2].mean())
            lowest = np.sort(normalized_entropy(next(iter(tiers.values()))))
            entries.append(
                CalibrationOfSet(
                    devices=tuple(name for name in hierarchy.device_names if name not in missing),
                    temperatures={tier: random.uniform(0.5, 2) for tier in tiers},
                    thresholds=thresholds,
                    entropies=tuple(lowest.tolist()),
                )
            )
        calibration = Calibration(risk=0.02, delta=0.1, samples=self.samples, sets=tuple(entries))
        return replace(self.bundle, calibration=calibration, thresholds=entries[0].thresholds)

    def _spread(self, random: np.random.Generator) -> None:
        """Random statistics, so that bits and classes differ between samples."""
        from_sensors = {
            f"{node.name}_{block}_0_norm"
            for node in self.topology.hierarchy.devices
            for block in ("convp", "units")
        }
        for layer in self.model.layers:
            if isinstance(layer, tf.keras.layers.BatchNormalization):
                gamma, beta, mean, variance = layer.get_weights()
                first = layer.name in from_sensors
                layer.set_weights(
                    [
                        random.uniform(0.5, 1.5, gamma.shape) * random.choice([-1, 1], gamma.shape),
                        random.normal(0, 0.3, beta.shape),
                        random.normal(0, 200 if first else 3, mean.shape),
                        random.uniform(1, 4, variance.shape) * (40000 if first else 30),
                    ]
                )

    def _thresholds(self) -> dict[str, float]:
        everyone = np.ones((self.samples, len(self.views)), bool)
        tiers = tier_probabilities(self.masked, self.topology, self.views, everyone)
        left = np.ones(self.samples, bool)
        found = {}
        for tier in self.topology.hierarchy.early_tier_names:
            entropy = normalized_entropy(tiers[tier])
            values = np.sort(np.unique(entropy[left]))
            at = max(0, int(len(values) * SHARE) - 1)
            # Between two values, so that the last digits of no engine decide.
            found[tier] = float(np.mean(values[at : at + 2], dtype=np.float64))
            left &= entropy > found[tier]
        return found
