"""`ddnn train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ddnn_tf.cli import options
from ddnn_tf.cli.evaluate import print_evaluation
from ddnn_tf.datasets import DATASETS, fitting_topology
from ddnn_tf.datasets.source import DatasetKind
from ddnn_tf.documents import check_writable
from ddnn_tf.recipes import RECIPES, find_recipe
from ddnn_tf.schemes import SCHEMES
from ddnn_tf.topology import ONE_DEVICE, Topology

_RECIPE_NAMES = ", ".join(RECIPES.registered)
_SCHEME_NAMES = ", ".join(SCHEMES.registered)


@options.takes_data
def train(
    out: Annotated[Path, typer.Option("--out", help="The run directory to make.", metavar="DIR")],
    data: options.DataName = "scenes",
    configuration: Annotated[
        str | None,
        typer.Option("--configuration", help="a to f: the letter in the paper's Figure 2.", show_default="c"),
    ] = None,
    filters: Annotated[
        str | None,
        typer.Option(
            "--filters",
            help="Filters of a device's ConvP block; of several, by commas: 4,8.",
            show_default="4",
        ),
    ] = None,
    local: Annotated[
        str | None,
        typer.Option("--local", help=f"Aggregation at the local exit: {_SCHEME_NAMES}.", show_default="MP"),
    ] = None,
    upper: Annotated[
        str | None,
        typer.Option(
            "--upper",
            help=f"Aggregation at edges and cloud: {_SCHEME_NAMES}.",
            show_default="CC; with --recipe robust WCC",
        ),
    ] = None,
    cloud_precision: Annotated[
        str | None,
        typer.Option(
            "--cloud-precision", help="Blocks of edges and cloud: binary or float.", show_default="binary"
        ),
    ] = None,
    topology: Annotated[
        Path | None,
        typer.Option("--topology", help="YAML file with the whole hierarchy, in place of the five above."),
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(
            "--recipe",
            help=f"How to train: {_RECIPE_NAMES}, or a YAML file. robust survives missing devices.",
        ),
    ] = "paper",
    quantization_aware: Annotated[
        bool, typer.Option("--quantization-aware", help="Train float blocks for 8-bit integers.")
    ] = False,
    sparsity: Annotated[
        float, typer.Option("--sparsity", help="Share of float blocks' weights to prune, e.g. 0.5.", min=0)
    ] = 0.0,
    epochs: Annotated[int, typer.Option("--epochs", help="Passes over the training data.", min=1)] = 100,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Samples per step.", min=1)] = 64,
    seed: options.Seed = 0,
    augment: Annotated[
        str | None,
        typer.Option(
            "--augment",
            help="Change training pictures: shift=0.1,scale=0.1,brightness=0.1,contrast=0.2,mirror.",
            show_default="not at all",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a run that stands in the directory.")
    ] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write TensorBoard logs into the run directory.")
    ] = False,
    as_json: options.Json = False,
    *,
    chosen: options.DataOptions,
) -> None:
    """Train a DDNN, all exits jointly, and each device's individual model.

    Rerun the same command to resume interrupted training.

    Examples:

        ddnn train --data scenes --out runs/scenes

        ddnn train --data occupancy --path occupancy.csv --configuration e --out runs/room

        ddnn train --data scenes --devices 3 --filters 4,8 --out runs/two-blocks

        ddnn train --data folder --path pictures --augment shift=0.1,mirror --out runs/mine

        ddnn train --data scenes --recipe robust --out runs/robust

        ddnn train --data scenes --topology hierarchy.yaml --out runs/own

        ddnn train --data scenes --cloud-precision float --quantization-aware --out runs/mixed
    """
    check_writable(out)
    chosen_recipe = find_recipe(recipe)
    changes = _changes(augment)
    figure_2 = {
        "configuration": configuration,
        "filters": None if filters is None else _filters(filters),
        "local": local,
        "upper": upper,
        "cloud_precision": cloud_precision,
    }
    form: dict[str, Any] = {option: value for option, value in figure_2.items() if value is not None}
    written = _written(topology, form)
    source = chosen.source(data, seed)
    if source.devices is None and "devices" in DATASETS[data].options:
        count = _device_count(written, configuration, DATASETS[data])
        source = source.model_copy(update={"devices": count})
    loaded = source.load()
    from ddnn_tf.augmentation import Augmentation
    from ddnn_tf.runs import train_run
    from ddnn_tf.training import TrainingOptions

    augmentation = Augmentation(**changes) if changes else None
    evaluation = train_run(
        out,
        written or fitting_topology(loaded, **{"upper": chosen_recipe.upper, **form}),
        source,
        loaded,
        TrainingOptions(
            epochs=epochs, batch_size=batch_size, seed=seed, augmentation=augmentation, recipe=chosen_recipe
        ),
        overwrite=overwrite,
        tensorboard=tensorboard,
        quantization_aware=quantization_aware,
        sparsity=sparsity,
    )
    print_evaluation(evaluation, loaded, seed, as_json)


def _changes(text: str | None) -> dict[str, Any]:
    """The fields of an `Augmentation`, out of `shift=0.1,mirror`."""
    changes: dict[str, Any] = {}
    for part in options.names(text) or ():
        name, equals, value = part.partition("=")
        if name == "mirror" and not equals:
            changes[name] = True
        elif name in ("shift", "scale", "brightness", "contrast") and equals:
            changes[name] = options.number(value, f"--augment {name}")
        else:
            raise ValueError(
                "Expected --augment out of shift=SHARE, scale=SHARE, brightness=SHARE, contrast=SHARE and "
                f"mirror, but got {part!r}."
            )
    return changes


def _filters(text: str) -> list[int]:
    """The whole numbers in `4,8`."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"Expected --filters like 4 or 4,8, but got {text!r}.") from None


def _written(file: Path | None, chosen: dict[str, Any]) -> Topology | None:
    """The topology of `--topology`, which goes without the options of Figure 2."""
    if file is None:
        return None
    if chosen:
        option = next(iter(chosen)).replace("_", "-")
        raise ValueError(f"--{option} and --topology contradict each other: set it in '{file}'.")
    return Topology.load(file)


def _device_count(topology: Topology | None, configuration: str | None, kind: DatasetKind) -> int | None:
    """How many devices the network has; None: as many as the data set has by itself."""
    if topology is not None:
        # The devices of a user's own data have names of their own: the topology need not take the first.
        return None if kind.record is not None else len(topology.hierarchy.devices)
    return 1 if configuration in ONE_DEVICE else None
