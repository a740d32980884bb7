"""`ddnn search`: topologies and recipes of most accuracy for the fewest bytes."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ddnn_tf.cli import options
from ddnn_tf.cli.printing import new_table, print_json, show
from ddnn_tf.documents import check_writable

if TYPE_CHECKING:
    from ddnn_tf.search import Found, Measures, Point

_LIMITS: dict[str, Any] = {"rich_help_panel": "Limits", "show_default": "none"}


@options.takes_data
def search(
    out: Annotated[
        Path, typer.Option("--out", help="The directory for study, networks and front.", metavar="DIR")
    ],
    data: options.DataName = "scenes",
    space: Annotated[
        Path | None,
        typer.Option("--space", help="YAML file with the search space.", show_default="the built-in one"),
    ] = None,
    objective: Annotated[
        Literal["accuracy", "robust"],
        typer.Option(
            "--objective",
            help="What to make large: accuracy, or robust: its mean with any one device missing.",
        ),
    ] = "accuracy",
    trials: Annotated[
        int,
        typer.Option(
            "--trials", help="Networks to train, those of before included; 0: show the front.", min=0
        ),
    ] = 20,
    epochs: Annotated[int, typer.Option("--epochs", help="Passes over the training data.", min=1)] = 20,
    seed: options.Seed = 0,
    workers: Annotated[int, typer.Option("--workers", help="Networks to train at a time.", min=1)] = 1,
    max_device_flash: Annotated[
        int | None,
        typer.Option("--max-device-flash", help="Bytes of flash of a device's C.", min=1, **_LIMITS),
    ] = None,
    max_device_ram: Annotated[
        int | None, typer.Option("--max-device-ram", help="Bytes of RAM of a device's C.", min=1, **_LIMITS)
    ] = None,
    max_bytes: Annotated[
        float | None,
        typer.Option("--max-bytes", help="Bytes per sample and device, Eq. (1).", min=0, **_LIMITS),
    ] = None,
    min_accuracy_any_one_missing: Annotated[
        float | None,
        typer.Option(
            "--min-accuracy-any-one-missing",
            help="Accuracy with any one device missing, whichever it is, e.g. 0.9.",
            min=0,
            max=1,
            **_LIMITS,
        ),
    ] = None,
    as_json: options.Json = False,
    *,
    chosen: options.DataOptions,
) -> None:
    """Search topologies and recipes: most accuracy for the fewest bytes, within limits.

    Validation samples guide the search; test samples are looked at once, for the networks on the front. Rerun
    the command to resume, with a larger --trials to go on. Candidates that break a limit whatever their
    weights are not trained. The most accurate network on the front is topology.yaml and recipe.yaml in the
    directory; study.db there opens with optuna.load_study.

    Examples:

        ddnn search --data scenes --out runs/search --trials 30

        ddnn search --data scenes --out runs/search --trials 0

        ddnn search --data scenes --objective robust --max-device-flash 4096 --max-bytes 40 --out runs/small

        ddnn search --data scenes --space space.yaml --workers 2 --out runs/mine
    """
    options.check_installed("search", "optuna", "matplotlib")
    if trials == 0:
        from ddnn_tf.search import open_search

        found = open_search(out)
    else:
        check_writable(out)
        source = chosen.source(data, seed)
        from ddnn_tf.search import Limits, Space
        from ddnn_tf.search import search as run

        found = run(
            out,
            source,
            space=None if space is None else Space.load(space),
            limits=Limits(
                max_device_flash=max_device_flash,
                max_device_ram=max_device_ram,
                max_bytes=max_bytes,
                min_accuracy_any_one_missing=min_accuracy_any_one_missing,
            ),
            objective=objective,
            trials=trials,
            epochs=epochs,
            seed=seed,
            workers=workers,
        )
    if as_json:
        print_json(found.to_dict())
        return
    _print(found, out)
    if len(found.points) < trials:
        print(f"Only {len(found.points)} networks: further candidates repeat them or break the limits.")


def _print(found: Found, place: Path) -> None:
    front = found.front
    robust = [point.validation.accuracy_one_missing is not None for point in front]
    table = new_table(
        f"Front of {len(found.points)} networks on {found.settings.data.name} ({found.refused} candidates "
        "refused untrained); accuracies in %; one missing: mean over every single missing device",
        "network",
        "trial",
        "bytes",
        "validation",
        *(["one missing", "worst"] if any(robust) else []),
        "test",
        *(["one missing", "worst"] if any(robust) else []),
        "flash",
        "RAM",
    )
    for point in front:
        table.add_row(
            point.title,
            str(point.number),
            f"{point.validation.bytes_per_sample:.1f}",
            *_accuracies(point.validation, any(robust)),
            *_accuracies(point.test, any(robust)),
            f"{point.device_flash_bytes:,}",
            f"{point.device_ram_bytes:,}",
        )
    show(table)
    if not front:
        print("No network within the limits yet.")
        return
    best = front[-1]
    print(f"The recipe of trial {best.number}: {_recipe(best)}.")
    if best.test is None:
        print("The search is not finished: give its command again to resume it.")
        return
    settings = found.settings
    path = [] if settings.data.path is None else ["--path", settings.data.path]
    command = [
        *("ddnn", "train", "--data", settings.data.name, *path, "--topology", place / "topology.yaml"),
        *("--recipe", place / "recipe.yaml", "--epochs", settings.epochs, "--seed", settings.seed),
        *("--out", "RUN"),
    ]
    print(f"Train it, with the same options of the data: {shlex.join(map(str, command))}")


def _accuracies(measures: Measures | None, is_robust: bool) -> list[str]:
    """Cells of a part of the data."""
    if measures is None:
        return ["-"] * (3 if is_robust else 1)
    values = [measures.accuracy]
    if is_robust:
        values += [measures.accuracy_one_missing or 0, measures.worst_accuracy_one_missing or 0]
    return [f"{100 * value:.1f}" for value in values]


def _recipe(point: Point) -> str:
    """What differs from the paper's recipe, for people."""
    fields = {name: value for name, value in point.recipe.differences().items() if name != "name"}
    return ", ".join(
        f"{name} {f'{value:.3g}' if isinstance(value, float) else value}" for name, value in fields.items()
    )
