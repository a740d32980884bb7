"""`ddnn data` and `ddnn topology`: what goes in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from typer.core import TyperGroup

from ddnn_tf.cli import options
from ddnn_tf.cli.printing import new_table, print_json, show
from ddnn_tf.datasets import PARTS, MultiViewDataset
from ddnn_tf.datasets.drafting import draft_description
from ddnn_tf.documents import write_text


class _ShowsByDefault(TyperGroup):
    """`ddnn data NAME` means `ddnn data show NAME`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["show", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_ShowsByDefault,
    help="Show what is in a data set, or check it.\n\n`ddnn data NAME` is short for `ddnn data show NAME`.",
)


@app.command("show")
@options.takes_data
def data(
    name: Annotated[
        str, typer.Argument(help=f"{options.DATA_NAMES}, or one of a plug-in.", metavar="NAME")
    ] = "scenes",
    seed: options.Seed = 0,
    as_json: options.Json = False,
    *,
    chosen: options.DataOptions,
) -> None:
    """Load a data set, check it, and show what is in it.

    Examples:

        ddnn data scenes --split track

        ddnn data mvmc --path MVMC.npz --split-file mvmc_author_split.json
    """
    loaded = chosen.source(name, seed).load()
    summary = _summary(loaded)
    if as_json:
        print_json(summary)
        return
    parts = new_table(
        f"{name}: {len(loaded.labels)} samples, {len(loaded.device_names)} devices",
        "samples",
        *loaded.class_names,
    )
    for part in PARTS:
        counts = np.bincount(loaded.targets(part), minlength=len(loaded.class_names))
        parts.add_row(part, *map(str, counts))
    views = new_table("Views of each device", "device", "input", *loaded.class_names, "absent")
    for device, counts in summary["views"].items():
        shape = "x".join(map(str, loaded.shapes[device]))
        views.add_row(device, shape, *(str(count) for count in counts.values()))
    show(parts, f"Split {loaded.split_rule}.", views)


@app.command("describe")
def describe(
    file: Annotated[Path, typer.Argument(help="A CSV file of sensor readings.", metavar="FILE.csv")],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Write it into that file.", metavar="FILE.yaml", show_default="print it"),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Draft the description of a CSV file that the data set `table` needs, to be corrected by hand.

    Example:

        ddnn data describe occupancy.csv --out room.yaml
    """
    if out is not None and out.exists():
        raise FileExistsError(f"'{out}' is there already: name another file, or remove it.")
    description = draft_description(file, out)
    text = description.to_yaml()
    if out is not None:
        write_text(out, f"# Drafted by `ddnn data describe`: correct devices, label and window.\n{text}")
    if as_json:
        print_json(description.model_dump(mode="json", exclude_none=True))
    elif out is None:
        print(text, end="")
    else:
        print(f"The description is in {out}: correct it, then `ddnn data table --path {out}`.")


def topology(
    path: Annotated[
        Path, typer.Argument(help="A topology in YAML, a run or a bundle.", metavar="FILE|RUN|BUNDLE")
    ],
    svg: Annotated[Path | None, typer.Option("--svg", help="Draw it into that file.", metavar="FILE")] = None,
    as_json: options.Json = False,
) -> None:
    """Show who sends what to whom in a hierarchy.

    Example:

        ddnn topology runs/scenes --svg hierarchy.svg
    """
    hierarchy = options.read_topology(path).hierarchy
    if svg is not None:
        write_text(svg, hierarchy.to_svg())
    if not as_json:
        print(hierarchy)
        return
    links = [
        {
            "sender": link.sender,
            "receiver": link.receiver,
            "carries": link.carries.value,
            "shape": list(link.spec.shape),
            "kind": link.spec.kind,
            "bytes": link.spec.size,
        }
        for link in hierarchy.links
    ]
    roles = {node.name: node.role.value for node in (*hierarchy.nodes, *hierarchy.adapters)}
    tiers = {tier.name: [exit_.name for exit_ in tier.exits] for tier in hierarchy.tiers}
    print_json({"nodes": roles, "links": links, "exits": tiers})


def _summary(data: MultiViewDataset) -> dict[str, Any]:
    views = {}
    for number, device in enumerate(data.device_names):
        present = data.presence[:, number]
        counts = np.bincount(data.labels[present], minlength=len(data.class_names)).tolist()
        by_class = dict(zip(data.class_names, counts, strict=True))
        views[device] = {**by_class, "absent": int((~present).sum())}
    return {
        "data": data.name,
        "samples": len(data.labels),
        "inputs": {device: list(shape) for device, shape in data.shapes.items()},
        "classes": list(data.class_names),
        "parts": {part: len(data.split[part]) for part in PARTS},
        "split": data.split_rule,
        "balanced_by_weights": data.balance,
        "skipped": data.skipped,
        "views": views,
    }
