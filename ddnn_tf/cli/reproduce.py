"""`ddnn reproduce`: the paper's tables and figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ddnn_tf.cli import options
from ddnn_tf.cli.printing import print_json

_PRINTED_ROWS = 20


@options.takes_data
def reproduce(
    out: Annotated[Path, typer.Option("--out", help="The directory for networks and report.", metavar="DIR")],
    data: options.DataName = "scenes",
    only: Annotated[
        str | None,
        typer.Option(
            "--only",
            help="Tables and figures, by commas: table-1,figure-8. Some take part only if named: recipe, "
            "resilience, fewer-bytes.",
            show_default="all others",
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option("--seeds", help="Trainings of each network.", min=1, show_default="3; quick: 1"),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", help="Passes over the training data.", min=1, show_default="100; quick: 10"),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="One seed, 10 epochs: a look at the report, not at the numbers.")
    ] = False,
    as_json: options.Json = False,
    *,
    chosen: options.DataOptions,
) -> None:
    """Reproduce every table and figure of the paper on a data set, beside the paper's numbers.

    Networks are trained several at a time and kept. Rerun the command to resume, or to add seeds or tables:
    only what is new is trained. Read report.html in the directory.

    Examples:

        ddnn reproduce --data scenes --out runs/paper

        ddnn reproduce --data scenes --out runs/paper --only table-1,figure-8

        ddnn reproduce --data mvmc --path MVMC.npz --split-file mvmc_author_split.json --out runs/mvmc
    """
    from ddnn_tf.evaluation.experiment import Experiment
    from ddnn_tf.evaluation.report import write_report
    from ddnn_tf.evaluation.reproduce import chosen_items
    from ddnn_tf.evaluation.reproduce import reproduce as run

    names = options.names(only)
    chosen_items(names)
    experiment = Experiment(
        chosen.source(data),
        out,
        seeds=seeds or (1 if quick else 3),
        epochs=epochs or (10 if quick else 100),
    )
    results = run(experiment, names)
    page = write_report(results, out)
    if as_json:
        print_json(results.to_dict())
        return
    for item in results.items:
        for table in item.tables:
            if len(table.rows) <= _PRINTED_ROWS:
                print(table.to_markdown())
        if item.lines:
            print(*item.lines, "", sep="\n")
    for name, reason in results.left_out.items():
        print(f"Left out: {name}. {reason}")
    print(f"The report is in {page}.")
