"""Options that several commands have, and what they make of them."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from ddnn_tf.bundle import open_bundle
from ddnn_tf.cli.printing import warn_of_plaintext
from ddnn_tf.datasets import DATASETS, DataSource, PictureSize
from ddnn_tf.topology import Topology

if TYPE_CHECKING:
    from ddnn_tf.runtime.security import Certificates

__all__ = [
    "DATA_NAMES",
    "BundlePath",
    "Certs",
    "DataName",
    "DataOptions",
    "Delta",
    "Json",
    "Plaintext",
    "Risk",
    "RunOrBundlePath",
    "RunPath",
    "Seed",
    "certificates",
    "check_installed",
    "check_runtime_installed",
    "checked_delta",
    "named_values",
    "names",
    "number",
    "read_topology",
    "takes_data",
]

_DATA: dict[str, Any] = {"rich_help_panel": "Data"}

# Data of a user's own by the ending of the file; a directory holds pictures.
_OWN_DATA = {".npz": "arrays", ".yaml": "table", ".yml": "table"}

DATA_NAMES = ", ".join(DATASETS.registered)

DataName = Annotated[
    str, typer.Option("--data", help=f"Data set: {DATA_NAMES}, or one of a plug-in.", metavar="NAME")
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of split and training.", min=0)]
Json = Annotated[
    bool, typer.Option("--json", help="Print the result as JSON on stdout, and nothing else there.")
]

Risk = Annotated[
    float | None,
    typer.Option(
        "--risk", help="Thresholds by risk: the largest share of wrong answers among early ones, e.g. 0.02."
    ),
]
Delta = Annotated[
    float | None,
    typer.Option("--delta", help="With --risk: the largest probability of more.", show_default="0.1"),
]
_DELTA = 0.1
Ask = Annotated[
    int | None,
    typer.Option(
        "--ask",
        help="Of an unsure sample ask only so many devices for their feature maps, the surest; default: all.",
        metavar="N",
        show_default=False,
    ),
]

_REMEDIES = {
    "run": {
        "bundle": "name the run that it was exported from; for bundles there are `ddnn verify`, `benchmark`, "
        "`cluster` and `serve`",
        "topology": "train it first, `ddnn train --topology {path} --out RUN`",
        "Keras model": "name the run directory that it is in, or make C of it with `ddnn export-c {path}`",
        "file": "name a directory",
    },
    "bundle": {
        "run": "export it first, `ddnn export {path} --out BUNDLE`",
        "topology": "train it first, `ddnn train --topology {path} --out RUN`, then `ddnn export RUN`",
        "Keras model": "export the run that it is in with `ddnn export`",
        "file": "name a directory or a file .zip",
    },
}
"""What helps, by what is wanted and what a path is in its place."""


def _kind(path: Path) -> str:
    if path.suffix == ".zip" or (path / "manifest.json").is_file():
        return "bundle"
    if path.is_dir():
        return "run" if (path / "topology.yaml").is_file() else "directory"
    if path.suffix in (".keras", ".h5"):
        return "Keras model"
    return "topology" if path.suffix in (".yaml", ".yml") else "file"


def _only(*wanted: str) -> Callable[[Path], Path]:
    """Refuses a path that is something else; the command says what is missing, in a directory too."""

    def check(path: Path) -> Path:
        kind = _kind(path)
        if path.exists() and kind not in (*wanted, "directory"):
            expected = {"run": "a directory made by `ddnn train`", "bundle": "a bundle made by `ddnn export`"}
            raise ValueError(
                f"Expected {' or '.join(expected[each] for each in wanted)}, but '{path}' is a {kind}: "
                f"{_REMEDIES[wanted[0]][kind].format(path=path)}."
            )
        return path

    return check


RunPath = Annotated[
    Path, typer.Argument(help="A directory made by `ddnn train`.", metavar="RUN", callback=_only("run"))
]
BundlePath = Annotated[
    Path, typer.Argument(help="A bundle made by `ddnn export`.", metavar="BUNDLE", callback=_only("bundle"))
]
RunOrBundlePath = Annotated[
    Path,
    typer.Argument(
        help="A run directory, or a bundle.", metavar="RUN|BUNDLE", callback=_only("run", "bundle")
    ),
]
Certs = Annotated[
    Path | None, typer.Option("--certs", help="Directory of certificates (`ddnn certs`).", metavar="DIR")
]
Plaintext = Annotated[
    bool, typer.Option("--plaintext", help="No TLS: for experiments, on loopback addresses only.")
]


def check_installed(extra: str, *modules: str) -> None:
    """Checks that modules of an extra are there, before a command imports them.

    Raises:
        ImportError: One is not installed; the message names the command that installs it.
    """
    for module in modules:
        if find_spec(module) is None:
            raise ImportError(f"{module} is not installed: pip install 'ddnn_tf[{extra}]'.")


def check_runtime_installed() -> None:
    """`check_installed` for all that processes and their clients import."""
    check_installed("runtime", "grpc", "grpc_health", "cryptography", "prometheus_client", "aiohttp")


@dataclass(frozen=True)
class DataOptions:
    """The options of every command that loads data, besides the data set's name and the seed."""

    path: Annotated[
        Path | None,
        typer.Option("--path", help="Where the data set's files are, if it is read from files.", **_DATA),
    ] = None
    devices: Annotated[
        int | None,
        typer.Option(
            "--devices",
            help="Number of end devices.",
            min=1,
            show_default="those of --topology; else 6 cameras, or all of your own data",
            **_DATA,
        ),
    ] = None
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            help="random, group, time (with gaps) or part (as the data say); for scenes: random or track.",
            show_default="the strictest that your own data allow",
            **_DATA,
        ),
    ] = None
    split_file: Annotated[
        Path | None,
        typer.Option("--split-file", help="For mvmc: JSON with the authors' order of samples.", **_DATA),
    ] = None
    test_share: Annotated[
        float | None,
        typer.Option(
            "--test-share",
            help="Fraction of your own data for test.",
            show_default="0.2",
            **_DATA,
        ),
    ] = None
    size: Annotated[
        list[str] | None,
        typer.Option(
            "--size",
            help="For folder: bring pictures to WIDTHxHEIGHT, or those of one device (DEVICE=WIDTHxHEIGHT).",
            metavar="[DEVICE=]WxH",
            show_default="32x32",
            **_DATA,
        ),
    ] = None
    fit: Annotated[
        str | None,
        typer.Option(
            "--fit",
            help="For folder: pad (keep the aspect ratio, fill with black) or stretch.",
            show_default="pad",
            **_DATA,
        ),
    ] = None
    channels: Annotated[
        str | None,
        typer.Option(
            "--channels",
            help="For folder: grey or colour.",
            show_default="as the pictures are",
            **_DATA,
        ),
    ] = None
    skip_unreadable: Annotated[
        bool,
        typer.Option(
            "--skip-unreadable",
            help="For folder: take pictures that cannot be read for absent views.",
            **_DATA,
        ),
    ] = False
    class_weights: Annotated[
        str | None,
        typer.Option(
            "--class-weights",
            help="balanced: every class counts alike in training, however rare; or none.",
            show_default="balanced for occupancy, else none",
            **_DATA,
        ),
    ] = None

    def source(self, name: str, seed: int = 0) -> DataSource:
        """The data source that the options name; what is left out has its default.

        Raises:
            ValueError: An option with a value out of its range, or a path in place of a name.
        """
        place = Path(name)
        if place.exists() and name not in DATASETS:
            own = _OWN_DATA.get(place.suffix.lower(), "folder")
            raise ValueError(
                f"Expected the name of a data set, but got the path '{name}': give it with --path, as data "
                f"set '{own}' if it is data of your own."
            )
        chosen: dict[str, Any] = {
            "path": None if self.path is None else str(self.path.resolve()),
            "devices": self.devices,
            "split": self.split,
            "split_file": None if self.split_file is None else str(self.split_file.resolve()),
            "test_share": self.test_share,
            "sizes": tuple(_picture_size(text) for text in self.size or ()),
            "fit": self.fit,
            "channels": self.channels,
            "skip_unreadable": self.skip_unreadable,
            "class_weights": self.class_weights,
        }
        return DataSource(name=name, seed=seed, **chosen)


def takes_data(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options of `DataOptions`, in place of its parameter `chosen`."""
    signature = inspect.signature(command, eval_str=True)
    hints = get_type_hints(DataOptions, include_extras=True)
    names = [field.name for field in fields(DataOptions)]
    by_name = inspect.Parameter.KEYWORD_ONLY
    shared = [
        inspect.Parameter(field.name, by_name, default=field.default, annotation=hints[field.name])
        for field in fields(DataOptions)
    ]
    own = [
        parameter.replace(kind=by_name)
        for parameter in signature.parameters.values()
        if parameter.annotation is not DataOptions
    ]

    @functools.wraps(command)
    def flat(**values: Any) -> None:
        chosen = DataOptions(**{name: values.pop(name) for name in names})
        command(**values, chosen=chosen)

    flat.__signature__ = signature.replace(parameters=[*own, *shared])  # type: ignore[attr-defined]
    return flat


def _picture_size(text: str) -> PictureSize:
    """`32x24`, or `door=32x24` for one device."""
    device, _, size = text.rpartition("=")
    match = re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", size)
    if match is None:
        raise ValueError(
            f"Expected --size WIDTHxHEIGHT in pixels, or DEVICE=WIDTHxHEIGHT, but got {text!r}: for instance "
            "32x32."
        )
    return PictureSize(device=device or None, width=int(match[1]), height=int(match[2]))


def read_topology(path: Path) -> Topology:
    """The topology of a YAML file, a run or a bundle.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds no topology.
    """
    if not path.exists():
        raise FileNotFoundError(f"There is no topology, run or bundle '{path}'.")
    if (path / "topology.yaml").is_file():
        return Topology.load(path / "topology.yaml")
    if _kind(path) == "directory":
        raise ValueError(f"'{path}' is neither a run nor a bundle: it holds no topology.yaml.")
    if _kind(path) == "bundle":
        return open_bundle(path).topology
    if _kind(path) == "Keras model":
        raise ValueError(f"'{path}' is a Keras model: name the run directory that it is in.")
    return Topology.load(path)


def certificates(process: str, certs: Path | None, plaintext: bool) -> Certificates | None:
    """The certificates of a process; None with `--plaintext`, which warns.

    Raises:
        ValueError: Neither of the two options, or both.
    """
    from ddnn_tf.runtime.security import Certificates

    if plaintext:
        if certs is not None:
            raise ValueError("--plaintext and --certs contradict each other: leave one out.")
        warn_of_plaintext()
        return None
    if certs is None:
        raise ValueError(
            "Expected --certs DIR with this process's certificate: make one with `ddnn certs`, or try "
            "--plaintext on loopback."
        )
    return Certificates.read(certs, process)


def checked_delta(risk: float | None, delta: float | None) -> float:
    """The delta of a risk, 0.1 if it is left out.

    Raises:
        ValueError: A delta without a risk, or one of them is not between 0 and 1.
    """
    if risk is None and delta is not None:
        raise ValueError("--delta is for thresholds by risk: add --risk, for instance 0.02.")
    for option, value in (("--risk", risk), ("--delta", delta)):
        if value is not None and not 0 < value < 1:
            raise ValueError(f"Expected {option} between 0 and 1, but got {value}: 0.02 is 2 %.")
    return _DELTA if delta is None else delta


def names(listed: str | None) -> list[str] | None:
    """The names in a list with commas; None for None."""
    return None if listed is None else [name.strip() for name in listed.split(",") if name.strip()]


def named_values(pairs: list[str] | None, option: str, known: tuple[str, ...]) -> dict[str, str]:
    """Values by name out of `NAME=VALUE`.

    Raises:
        ValueError: Another form, or an unknown name.
    """
    values = {}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not equals or name not in known:
            raise ValueError(
                f"Expected {option} NAME=VALUE with a name out of {', '.join(known) or 'none'}, but got "
                f"{pair!r}."
            )
        values[name] = value
    return values


def number(text: str, option: str) -> float:
    """A number.

    Raises:
        ValueError: It is none.
    """
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"Expected {option} with a number, but got {text!r}.") from None
