"""Options that several commands have, and what they make of them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ddnn_tf.bundle import open_bundle
from ddnn_tf.cli.printing import warn_of_plaintext
from ddnn_tf.datasets import DATASETS, DataSource
from ddnn_tf.topology import Topology

if TYPE_CHECKING:
    from ddnn_tf.runtime.security import Certificates

__all__ = [
    "DATA_NAMES",
    "BundlePath",
    "Certs",
    "DataName",
    "DataPath",
    "Devices",
    "Json",
    "Plaintext",
    "RunPath",
    "Seed",
    "Split",
    "SplitFile",
    "certificates",
    "check_installed",
    "check_runtime_installed",
    "data_source",
    "named_values",
    "names",
    "number",
    "read_topology",
]

DATA_NAMES = ", ".join(DATASETS.registered)

DataName = Annotated[
    str, typer.Option("--data", help=f"Data set: {DATA_NAMES}, or one of a plug-in.", metavar="NAME")
]
DataPath = Annotated[
    Path | None, typer.Option("--path", help="Where the data set's files are, if it is read from files.")
]
Devices = Annotated[
    int | None, typer.Option("--devices", help="Number of end devices.", min=1, show_default="6")
]
Split = Annotated[
    str | None,
    typer.Option("--split", help="For scenes: random, or track (test objects never seen in training)."),
]
SplitFile = Annotated[
    Path | None, typer.Option("--split-file", help="For mvmc: JSON with the authors' order of samples.")
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of split and training.", min=0)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
RunPath = Annotated[Path, typer.Argument(help="A directory made by `ddnn train`.", metavar="RUN")]
BundlePath = Annotated[Path, typer.Argument(help="A bundle made by `ddnn export`.", metavar="BUNDLE")]
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


def data_source(
    name: str,
    path: Path | None,
    devices: int | None,
    split: str | None,
    split_file: Path | None,
    seed: int = 0,
) -> DataSource:
    """The data source that the options name; what is left out has its default."""
    fields: dict[str, Any] = {
        "path": None if path is None else str(path.resolve()),
        "devices": devices,
        "split": split,
        "split_file": None if split_file is None else str(split_file.resolve()),
    }
    chosen = {option: value for option, value in fields.items() if value is not None}
    return DataSource(name=name, seed=seed, **chosen)


def read_topology(path: Path) -> Topology:
    """The topology of a YAML file, a run or a bundle.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds no topology.
    """
    if path.is_dir() and (path / "topology.yaml").is_file():
        return Topology.load(path / "topology.yaml")
    if path.is_dir() or path.suffix == ".zip":
        return open_bundle(path).topology
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
