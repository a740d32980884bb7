"""`ddnn serve`: one process of a deployment."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ddnn_tf.cli import options
from ddnn_tf.cli.printing import print_line
from ddnn_tf.hierarchy import AGGREGATOR, Node
from ddnn_tf.runtime.served import ENGINES, ServedNetwork

if TYPE_CHECKING:
    from ddnn_tf.runtime.process import ProcessConfig
    from ddnn_tf.runtime.telemetry import Metrics

Announce = Callable[[str, Any], None]

_Listen = Annotated[
    str, typer.Option("--listen", help="Address to listen at; port 0 takes a free one.", metavar="HOST:PORT")
]
_Engine = Annotated[str, typer.Option("--engine", help=f"What its section runs on: {', '.join(ENGINES)}.")]
_Wait = Annotated[
    float, typer.Option("--wait", help="Seconds within which its peers must be reached.", min=0)
]
_FeatureWait = Annotated[
    float, typer.Option("--feature-wait", help="Seconds to wait for feature maps.", min=0.001)
]
_Metrics = Annotated[
    str | None,
    typer.Option("--metrics", help="Serve Prometheus metrics over HTTP there.", metavar="HOST:PORT"),
]
_Log = Annotated[
    str, typer.Option("--log", help="Least level of the log on stderr: debug, info, warning, error.")
]
_Aggregator = Annotated[
    str, typer.Option("--aggregator", help="Where the aggregator listens.", metavar="HOST:PORT")
]
_Json = Annotated[
    bool, typer.Option("--json", help="Print each event as a line of JSON on stdout, and nothing else there.")
]
_Name = Annotated[str, typer.Option("--name", help="Its name in the topology.", metavar="NAME")]
_Skip = Annotated[
    str | None,
    typer.Option(
        "--skip", help="Where the receiver of its skip link listens, if it has one.", metavar="HOST:PORT"
    ),
]

app = typer.Typer(
    help="Run one process of a deployment until it is told to end (Ctrl-C, SIGTERM).", no_args_is_help=True
)


app.callback()(options.check_runtime_installed)


@app.command()
def device(
    bundle: options.BundlePath,
    name: _Name,
    aggregator: _Aggregator,
    upper: Annotated[
        str,
        typer.Option("--upper", help="Where the edge or cloud above it listens.", metavar="HOST:PORT"),
    ],
    local: Annotated[
        str | None,
        typer.Option(
            "--local",
            help="Where its local aggregator listens, if there are several of them.",
            metavar="HOST:PORT",
        ),
    ] = None,
    skip: _Skip = None,
    source: Annotated[
        str,
        typer.Option(
            "--source",
            help=(
                "Readings: data (its view of the test data), push (a client sends them), a directory of "
                "images, or a CSV or NPY file."
            ),
        ),
    ] = "data",
    show: Annotated[
        bool, typer.Option("--show", help="Send the last image to the aggregator's dashboard.")
    ] = False,
    listen: _Listen = "127.0.0.1:0",
    certs: options.Certs = None,
    plaintext: options.Plaintext = False,
    engine: _Engine = "tflite",
    wait: _Wait = 10.0,
    metrics: _Metrics = None,
    log: _Log = "warning",
    as_json: _Json = False,
) -> None:
    """An end device: sends its class vector for every sample, and its feature map when asked to.

    Example:

        ddnn serve device bundle.zip --name device_0 --aggregator 10.0.0.2:7000 --upper 10.0.0.3:7001
        --certs certs --source images/
    """
    from ddnn_tf.runtime.process import serve_device
    from ddnn_tf.runtime.sensors import open_sensor

    config = _config(name, listen, certs, plaintext, wait, log)
    network = ServedNetwork.read(bundle)
    sensor = open_sensor(source, network, name)
    node = network.hierarchy[name]
    peers = {AGGREGATOR: aggregator, **_receivers(node, upper, skip)}
    if local is not None and node.aggregator is not None:
        peers[node.aggregator] = local
    announce = _announcing(name, as_json)
    telemetry = _telemetry(metrics, announce)
    asyncio.run(
        serve_device(
            name, network, sensor, peers, config, telemetry, announce, engine=engine, shows_images=show
        )
    )


@app.command(name=AGGREGATOR)
def serve_aggregator(
    bundle: options.BundlePath,
    upper: Annotated[
        list[str],
        typer.Option(
            "--upper",
            help="Where the cloud, each edge and each of several local aggregators listens.",
            metavar="NAME=HOST:PORT",
        ),
    ],
    threshold: Annotated[
        list[str] | None, typer.Option("--threshold", help="T in place of the bundle's.", metavar="TIER=T")
    ] = None,
    device_wait: Annotated[
        float, typer.Option("--device-wait", help="Seconds to wait for class vectors.", min=0.001)
    ] = 0.5,
    upper_wait: Annotated[
        float, typer.Option("--upper-wait", help="Seconds to wait for the tiers above.", min=0.001)
    ] = 2.0,
    ask: options.Ask = None,
    dashboard: Annotated[
        str | None, typer.Option("--dashboard", help="Serve the live page there.", metavar="HOST:PORT")
    ] = None,
    listen: _Listen = "127.0.0.1:0",
    certs: options.Certs = None,
    plaintext: options.Plaintext = False,
    engine: _Engine = "tflite",
    wait: _Wait = 10.0,
    metrics: _Metrics = None,
    log: _Log = "warning",
    as_json: _Json = False,
) -> None:
    """The coordinating process: asks the devices, decides by entropy, asks the tiers above if unsure.

    Example:

        ddnn serve aggregator bundle.zip --listen 10.0.0.2:7000 --upper cloud=10.0.0.3:7001 --certs certs
    """
    from ddnn_tf.runtime.aggregator import Aggregator
    from ddnn_tf.runtime.calls import Caller
    from ddnn_tf.runtime.policy import peers_of
    from ddnn_tf.runtime.process import serve_aggregator as serve
    from ddnn_tf.runtime.unit import SUPERVISED

    config = _config(AGGREGATOR, listen, certs, plaintext, wait, log)
    network = ServedNetwork.read(bundle)
    addresses = _addresses(upper, peers_of(network.hierarchy, AGGREGATOR))
    announce = _announcing(AGGREGATOR, as_json)
    telemetry = _telemetry(metrics, announce)
    chosen = options.named_values(threshold, "--threshold", network.hierarchy.early_tier_names)
    thresholds = {tier: options.number(value, "--threshold") for tier, value in chosen.items()}

    async def run() -> None:
        uppers = {
            name: Caller(AGGREGATOR, name, address, config.certificates, network.fingerprint)
            for name, address in addresses.items()
        }
        tier = Aggregator(
            network, uppers, telemetry, engine=engine, thresholds=thresholds, wait=device_wait,
            upper_wait=upper_wait, ask=ask,
        )  # fmt: skip
        if dashboard is None:
            await serve(tier, uppers, config, announce)
            return
        from ddnn_tf.runtime.dashboard import Dashboard

        # In a local cluster the process that started this one fails and revives devices.
        is_supervised = SUPERVISED in os.environ
        async with Dashboard(tier, _tell_supervisor if is_supervised else None) as page:
            announce("dashboard", await page.start(dashboard))
            await serve(tier, uppers, config, announce)

    asyncio.run(run())


@app.command()
def local(
    bundle: options.BundlePath,
    name: _Name,
    feature_wait: Annotated[
        float, typer.Option("--feature-wait", help="Seconds to wait for class vectors.", min=0.001)
    ] = 0.5,
    listen: _Listen = "127.0.0.1:0",
    certs: options.Certs = None,
    plaintext: options.Plaintext = False,
    engine: _Engine = "tflite",
    metrics: _Metrics = None,
    log: _Log = "warning",
    as_json: _Json = False,
) -> None:
    """One of several local aggregators: joins the class vectors of its devices, reports to the aggregator.

    A hierarchy with a single local aggregator needs none: it is part of `ddnn serve aggregator`.

    Example:

        ddnn serve local bundle.zip --name site_a --listen 10.0.0.6:7001 --certs certs
    """
    _serve_upper(bundle, name, None, feature_wait, listen, certs, plaintext, engine, 0, metrics, log, as_json)


@app.command()
def edge(
    bundle: options.BundlePath,
    upper: Annotated[
        str,
        typer.Option(
            "--upper", "--cloud", help="Where the edge or cloud above it listens.", metavar="HOST:PORT"
        ),
    ],
    skip: _Skip = None,
    name: _Name = "edge_0",
    feature_wait: _FeatureWait = 0.5,
    listen: _Listen = "127.0.0.1:0",
    certs: options.Certs = None,
    plaintext: options.Plaintext = False,
    engine: _Engine = "tflite",
    wait: _Wait = 10.0,
    metrics: _Metrics = None,
    log: _Log = "warning",
    as_json: _Json = False,
) -> None:
    """An edge of any level: joins the feature maps of its senders, and decides or passes its own up.

    Example:

        ddnn serve edge bundle.zip --name edge_1 --upper 10.0.0.4:7001 --listen 10.0.0.3:7001 --certs certs
    """
    _serve_upper(
        bundle, name, upper, feature_wait, listen, certs, plaintext, engine, wait, metrics, log, as_json, skip
    )


@app.command()
def cloud(
    bundle: options.BundlePath,
    feature_wait: _FeatureWait = 0.5,
    listen: _Listen = "127.0.0.1:0",
    certs: options.Certs = None,
    plaintext: options.Plaintext = False,
    engine: _Engine = "tflite",
    metrics: _Metrics = None,
    log: _Log = "warning",
    as_json: _Json = False,
) -> None:
    """The cloud: joins feature maps and always answers; samples that arrive together run together.

    Example:

        ddnn serve cloud bundle.zip --listen 10.0.0.4:7001 --certs certs
    """
    _serve_upper(
        bundle, "cloud", None, feature_wait, listen, certs, plaintext, engine, 0, metrics, log, as_json
    )


@app.command()
def gateway(
    bundle: options.BundlePath,
    aggregator: _Aggregator,
    upper: Annotated[
        list[str],
        typer.Option(
            "--upper",
            help="Where the edges or the cloud above its devices, and their local aggregators, listen.",
            metavar="NAME=HOST:PORT",
        ),
    ],
    keys: Annotated[
        Path,
        typer.Option(
            "--keys", help="Keys of the devices behind it (`ddnn certs --gateway`).", metavar="FILE"
        ),
    ],
    listen: _Listen = "127.0.0.1:0",
    certs: options.Certs = None,
    plaintext: options.Plaintext = False,
    wait: _Wait = 10.0,
    metrics: _Metrics = None,
    log: _Log = "warning",
    as_json: _Json = False,
) -> None:
    """A gateway for microcontrollers: their framed messages over UDP or TCP, with a key for each.

    Example:

        ddnn serve gateway bundle.zip --keys certs/gateway.keys --certs certs --listen 10.0.0.5:7002
        --aggregator 10.0.0.2:7000 --upper cloud=10.0.0.3:7001
    """
    from ddnn_tf.runtime.gateway import read_keys
    from ddnn_tf.runtime.policy import peers_of
    from ddnn_tf.runtime.process import serve_gateway
    from ddnn_tf.runtime.security import GATEWAY

    config = _config(GATEWAY, listen, certs, plaintext, wait, log)
    network = ServedNetwork.read(bundle)
    devices = read_keys(keys, network)
    peers = dict.fromkeys(peer for device in devices for peer in peers_of(network.hierarchy, device))
    addresses = _addresses(upper, tuple(peer for peer in peers if peer != AGGREGATOR))
    announce = _announcing(GATEWAY, as_json)
    telemetry = _telemetry(metrics, announce)
    asyncio.run(
        serve_gateway(network, devices, {AGGREGATOR: aggregator, **addresses}, config, telemetry, announce)
    )


@app.command()
def plan(
    bundle: options.BundlePath,
    file: Annotated[
        Path, typer.Argument(help="A plan made by `ddnn place RUN --network FILE`.", metavar="PLAN")
    ],
    unit: Annotated[str, typer.Option("--unit", help="Run the processes of that unit.", metavar="NAME")],
    source: Annotated[
        str, typer.Option("--source", help="Readings of its devices, as for `ddnn serve device`.")
    ] = "data",
    certs: options.Certs = None,
    plaintext: options.Plaintext = False,
    wait: _Wait = 60.0,
    log: _Log = "warning",
    as_json: _Json = False,
) -> None:
    """The processes that a deployment plan gives a unit, until told to end or one of them ends.

    Example:

        ddnn serve plan bundle.zip plan.yaml --unit hub --certs certs
    """
    from ddnn_tf.plan import Plan
    from ddnn_tf.runtime.unit import serve_unit

    if plaintext and certs is not None:
        raise ValueError("--plaintext and --certs contradict each other: leave one out.")
    trust = ["--plaintext"] if plaintext else [] if certs is None else ["--certs", str(certs)]
    common = [*trust, "--log", log, *(["--json"] if as_json else [])]
    waiting = [*common, "--wait", str(wait)]
    by_role = {
        "device": [*waiting, "--source", source],
        "aggregator": waiting,
        "local": common,
        "edge": waiting,
        "cloud": common,
    }
    code = asyncio.run(serve_unit(bundle, Plan.load(file), unit, by_role))
    if code:
        raise typer.Exit(code)


def _serve_upper(
    bundle: Path,
    name: str,
    receiver: str | None,
    feature_wait: float,
    listen: str,
    certs: Path | None,
    plaintext: bool,
    engine: str,
    wait: float,
    metrics: str | None,
    log: str,
    as_json: bool,
    skip: str | None = None,
) -> None:
    from ddnn_tf.runtime.process import serve_upper

    config = _config(name, listen, certs, plaintext, wait, log)
    network = ServedNetwork.read(bundle)
    nodes = {node.name: node for node in network.hierarchy.uppers}
    # Other names are refused by `Upper`.
    peers = {} if receiver is None or name not in nodes else _receivers(nodes[name], receiver, skip)
    announce = _announcing(name, as_json)
    telemetry = _telemetry(metrics, announce)
    asyncio.run(
        serve_upper(
            name, network, peers, config, telemetry, announce, engine=engine, features_wait=feature_wait
        )
    )


def _receivers(node: Node, upper: str, skip: str | None) -> dict[str, str]:
    """Addresses of the receivers of a node's feature map, by name."""
    receivers = {str(node.receiver): upper}
    if (node.skip_receiver is None) != (skip is None):
        wanted = "no --skip" if node.skip_receiver is None else f"--skip HOST:PORT of {node.skip_receiver}"
        raise ValueError(f"Expected {wanted} for {node.name}, but got {skip or 'none'}.")
    if node.skip_receiver is not None and skip is not None:
        receivers[node.skip_receiver] = skip
    return receivers


def _addresses(pairs: list[str], needed: tuple[str, ...]) -> dict[str, str]:
    """An address for each of the processes that are needed, out of `NAME=HOST:PORT`."""
    addresses = options.named_values(pairs, "--upper", needed)
    for name in needed:
        if name not in addresses:
            raise ValueError(f"Expected --upper NAME=HOST:PORT for {name}, but got none.")
    return addresses


def _config(
    name: str, listen: str, certs: Path | None, plaintext: bool, wait: float, log: str
) -> ProcessConfig:
    from ddnn_tf.runtime.process import ProcessConfig
    from ddnn_tf.runtime.telemetry import log_in_json

    log_in_json(name, log)
    return ProcessConfig(listen=listen, certificates=options.certificates(name, certs, plaintext), wait=wait)


def _telemetry(address: str | None, announce: Announce) -> Metrics:
    from ddnn_tf.runtime.telemetry import Metrics, serve_metrics

    metrics = Metrics()
    if address is not None:
        announce("metrics", serve_metrics(metrics, address))
    return metrics


def _announcing(name: str, as_json: bool) -> Announce:
    def announce(event: str, what: Any) -> None:
        about = "bytes" if event == "wire" else "address"
        if as_json:
            print_line({"event": event, "process": name, about: what, "pid": os.getpid()})
        elif event == "wire":
            print(f"{name}: bytes sent and received by peer: {what}", flush=True)
        elif event == "listening":
            print(f"{name} listens at {what}.", flush=True)
        elif event in ("dashboard", "metrics"):
            print(f"The {event} of {name}: {what}", flush=True)
        else:
            print(f"{name} is ready.", flush=True)

    return announce


def _tell_supervisor(verb: str, device: str) -> None:
    print_line({"event": verb, "device": device})
