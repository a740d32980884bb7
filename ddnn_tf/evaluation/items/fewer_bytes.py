"""Beyond the paper: accuracy against bytes with fewer devices asked, and with coded feature maps.

For a sample of which the local exit is unsure, only the first m devices of a ranking are asked for their
feature maps; the cloud takes the others for absent. The network is trained with the robust recipe, by which
it is used to that. The bytes are those of Eq. (1) with the asked devices only; and again with feature maps
coded by a `BitCoder` that is fitted to the training samples.

Source: ours; Teerapittayanon et al. 2017, Section III-E, Eq. (1).
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ddnn_tf.coding import BitCoder
from ddnn_tf.evaluation.accuracy import Evaluation, measure
from ddnn_tf.evaluation.drawing import canvas, colour, legend
from ddnn_tf.evaluation.experiment import Experiment
from ddnn_tf.evaluation.item import Item, register_item
from ddnn_tf.evaluation.items.figure_8 import one_device
from ddnn_tf.evaluation.measures import OVERALL, accuracy_columns
from ddnn_tf.evaluation.result_table import Cell, Table, estimate, mean
from ddnn_tf.evaluation.trial import Trial, subsets
from ddnn_tf.exits import staged_inference
from ddnn_tf.frames import pack_bits
from ddnn_tf.offload import certainty, highest, influence

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["RANKINGS", "figures", "obstacle", "tables", "trials"]

_TITLE = "Fewer bytes"
RANKINGS = ("certainty", "influence", "random", "fixed")
"""By the entropy of each device's class vector; by how far the local exit moves without it; by chance; the
set of best cloud exit on validation samples, the same one for all samples."""
_MOST_DEVICES = 8  # of which the answers of all sets are known
_MARKERS = "osv^"

Asked = NDArray[np.bool_]
"""`(samples, devices)`, whom to ask for a feature map."""


@dataclass(frozen=True)
class CodedMaps:
    """Bytes of a device's feature maps of the test samples.

    Attributes:
        sizes: `(samples,)` int64, coded by `BitCoder`.
        zlib: Mean of the packed bits after zlib, without its header and checksum.
        by_position: Mean code length of the bits, each by how often it was set in training.
    """

    sizes: NDArray[np.int64]
    zlib: float
    by_position: float


def obstacle(experiment: Experiment) -> str | None:
    """Why there is nobody to choose from, or too many sets."""
    devices = len(experiment.devices)
    if devices <= _MOST_DEVICES:
        return one_device(experiment)
    return f"The data set '{experiment.source.name}' has {devices} devices: {_MOST_DEVICES} can be ranked."


def trials(experiment: Experiment) -> list[Trial]:
    """A robust network for each seed, with its answers without every set of devices."""
    sets = subsets(experiment.devices)
    return [experiment.network(seed, recipe="robust", missing=sets) for seed in experiment.seeds]


def tables(experiment: Experiment) -> list[Table]:
    """Each ranking and number of asked devices; and what the coder saves of each device's feature map."""
    group = trials(experiment)
    coded = [_coded(experiment, trial) for trial in group]
    return [_asking(experiment, group, coded), _coding(group[0], coded)]


def figures(tables: Sequence[Table]) -> dict[str, Figure]:
    """Accuracy against bytes: packed bits on the left, coded ones on the right."""
    asking, _ = tables
    figure, panels = canvas(
        f"{_TITLE}: fewer devices asked, fewer bits each",
        "bytes per sample and device",
        "overall accuracy / %",
        panels=2,
    )
    for axes, size, title in zip(
        panels, ("bytes", "coded bytes"), ("feature maps as in Eq. (1)", "feature maps coded"), strict=True
    ):
        for number, ranking in enumerate(RANKINGS):
            rows = [row for row in asking.rows if row["ranking"] == ranking]
            axes.plot(
                [mean(row[size]) for row in rows],
                [mean(row[f"{OVERALL} %"]) for row in rows],
                color=colour(number), marker=_MARKERS[number], markersize=5, linewidth=1.2, label=ranking,
            )  # fmt: skip
        axes.set_title(title, fontsize=10)
        legend(axes)
    return {"fewer_bytes": figure}


def _asking(
    experiment: Experiment, group: Sequence[Trial], coded: Sequence[Mapping[str, CodedMaps]]
) -> Table:
    rows: list[dict[str, Cell]] = []
    for threshold in ("chosen", "always"):
        for ranking in RANKINGS:
            for number in range(1, len(experiment.devices) + 1):
                measured = [
                    _measured(experiment, trial, maps, ranking, number, threshold == "always")
                    for trial, maps in zip(group, coded, strict=True)
                ]
                found = [evaluation for evaluation, _ in measured]
                rows.append(
                    {
                        "T": threshold,
                        "ranking": ranking,
                        "asked": number,
                        "bytes": estimate([each.bytes_per_sample for each in found]),
                        "coded bytes": estimate([size for _, size in measured]),
                        **accuracy_columns(("cloud", OVERALL), found, balance=experiment.shows_balance),
                    }
                )
    notes = (
        "T chosen: as validation data chose it, with all devices asked. T always: 0, every sample goes on.",
        "With all devices asked, the bytes are those of Eq. (1). Cloud: all samples, with the asked devices.",
        "Certainty: the devices of lowest entropy; influence: those without which the local exit's answer "
        "changes most; fixed: the best set on validation data.",
    )
    return Table("fewer_bytes", f"{_TITLE}: only some devices are asked", rows, notes)


def _coding(trial: Trial, coded: Sequence[Mapping[str, CodedMaps]]) -> Table:
    rows: list[dict[str, Cell]] = []
    for node in trial.topology.hierarchy.devices:
        assert node.output is not None
        own = [by_device[node.name] for by_device in coded]
        rows.append(
            {
                "device": node.name,
                "packed": node.output.size,
                "zlib": estimate([maps.zlib for maps in own]),
                "by position": estimate([maps.by_position for maps in own]),
                "coded": estimate([float(maps.sizes.mean()) for maps in own]),
            }
        )
    notes = (
        "Bytes per feature map, mean over the test samples. By position: the code length if each bit is "
        "coded by how often it was set in training; coded: by its neighbours, with `BitCoder`.",
    )
    return Table("coded_feature_maps", f"{_TITLE}: entropy-coded feature maps", rows, notes)


def _coded(experiment: Experiment, trial: Trial) -> dict[str, CodedMaps]:
    """What a trial's test samples take, coded by what its training samples are like."""
    trained, maps = experiment.feature_maps(trial, "train"), experiment.feature_maps(trial)
    return {
        name: CodedMaps(
            BitCoder.fit(trained[name]).sizes(array),
            _zlib_bytes(array),
            _bytes_by_position(trained[name], array),
        )
        for name, array in maps.items()
    }


def _measured(
    experiment: Experiment,
    trial: Trial,
    maps: Mapping[str, CodedMaps],
    ranking: str,
    number: int,
    always: bool,
) -> tuple[Evaluation, float]:
    """The measures with so many devices asked; and the bytes per sample and device with coded maps."""
    asked = _asked(experiment, trial, ranking, number)
    tiers = trial.topology.hierarchy.exit_tier_names
    probabilities = {tier: _with_asked(experiment, trial, tier, asked) for tier in tiers}
    probabilities[tiers[0]] = experiment.answers(trial).test[tiers[0]]
    thresholds = dict.fromkeys(tiers[:-1], 0.0) if always else experiment.thresholds(trial)
    evaluation = measure(trial.topology, probabilities, experiment.labels(trial), thresholds, asked=asked)
    exits = staged_inference(list(probabilities.values()), list(thresholds.values())).exits
    goes_on = asked & (exits > 0)[:, None]
    devices = trial.topology.hierarchy.devices
    saved = 0.0
    for column, node in enumerate(devices):
        assert node.output is not None
        saved += float((goes_on[:, column] * (node.output.size - maps[node.name].sizes)).mean())
    return evaluation, evaluation.bytes_per_sample - saved / len(devices)


def _asked(experiment: Experiment, trial: Trial, ranking: str, number: int) -> Asked:
    """Whom a ranking asks of each test sample."""
    answers, devices = experiment.answers(trial), trial.devices
    local = trial.topology.hierarchy.exit_tier_names[0]
    samples = len(answers.test[local])
    if ranking == "fixed":
        chosen = _best_set(experiment, trial, number)
        return np.tile([name in chosen for name in devices], (samples, 1))
    if ranking == "certainty":
        others = [tuple(other for other in devices if other != name) for name in devices]
        scores: NDArray[Any] = certainty(
            np.stack([answers.of("test", missing)[local] for missing in others], axis=1)
        )
    elif ranking == "influence":
        without = np.stack([answers.of("test", (name,))[local] for name in devices], axis=1)
        scores = influence(answers.test[local], without)
    else:
        scores = np.random.default_rng(trial.options.seed).random((samples, len(devices)))
    return highest(scores, number)


def _best_set(experiment: Experiment, trial: Trial, number: int) -> tuple[str, ...]:
    """The devices with which the cloud exit is best on validation samples; of equally good sets the first."""
    answers, labels = experiment.answers(trial), experiment.labels(trial, "validation")
    cloud = trial.topology.hierarchy.exit_tier_names[-1]

    def right(chosen: tuple[str, ...]) -> float:
        missing = tuple(name for name in trial.devices if name not in chosen)
        return float((answers.of("validation", missing)[cloud].argmax(axis=1) == labels).mean())

    return max(itertools.combinations(trial.devices, number), key=right)


def _with_asked(experiment: Experiment, trial: Trial, tier: str, asked: Asked) -> NDArray[np.float64]:
    """What a tier answers to each test sample with the devices that were asked."""
    answers = experiment.answers(trial)
    mixed = np.empty_like(answers.test[tier])
    for pattern in np.unique(asked, axis=0):
        rows = (asked == pattern).all(axis=1)
        missing = tuple(name for name, is_asked in zip(trial.devices, pattern, strict=True) if not is_asked)
        mixed[rows] = answers.of("test", missing)[tier][rows]
    return mixed


def _bytes_by_position(trained: NDArray[np.float32], maps: NDArray[np.float32]) -> float:
    """Mean code length of bits, each by how often it was set in training."""
    likely = ((trained > 0).sum(axis=0) + 1) / (len(trained) + 2)
    lengths = -np.log2(np.where(maps > 0, likely, 1 - likely))
    return float(lengths.sum() / len(maps) / 8)


def _zlib_bytes(maps: NDArray[np.float32]) -> float:
    """Mean bytes of packed bits after zlib, without its header and checksum."""
    packed = pack_bits(maps)
    around = len(zlib.compress(b"")) - 2
    return float(np.mean([len(zlib.compress(row.tobytes(), 9)) - around for row in packed]))


register_item(
    Item(
        "fewer-bytes",
        order=140,
        title=_TITLE,
        trials=trials,
        tables=tables,
        figures=figures,
        obstacle=obstacle,
        is_extra=True,
    )
)
