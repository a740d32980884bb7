"""The `ddnn` command. Each module holds a group of commands, which parse, call the library and print.

Nothing here imports TensorFlow, gRPC or SciPy before a command needs it, so that help comes at once.
"""

from __future__ import annotations

import logging
import sys
import warnings
from typing import Annotated, Any

import typer
from typer.exceptions import Abort, TyperException

import ddnn_tf
from ddnn_tf.cli import check, cluster, data, evaluate, export, place, reproduce, search, serve, train

__all__ = ["app", "main"]

_FAILED = 2
_INTERRUPTED = 130

app = typer.Typer(
    name="ddnn",
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (
    data.topology,
    train.train,
    evaluate.evaluate,
    search.search,
    reproduce.reproduce,
    export.export,
    export.export_c,
    export.verify,
    export.benchmark,
    cluster.cluster,
    cluster.classify,
    cluster.certs,
):
    app.command()(_command)
data.app.command("check")(check.check)
app.add_typer(data.app, name="data")
app.add_typer(serve.app, name="serve")
app.add_typer(place.app, name="place")


def _print_version(asked: bool) -> None:
    if asked:
        print(f"ddnn_tf {ddnn_tf.__version__}")
        raise typer.Exit


@app.callback()
def _ddnn(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Distributed deep neural networks over the cloud, the edge and end devices.

    Start with:  ddnn train --data scenes --out runs/first  and then  ddnn evaluate runs/first
    """


def main() -> None:
    """Runs the command; an error is one line on stderr and exit code 2."""
    warnings.showwarning = _warn
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    logging.getLogger("larq").setLevel(logging.ERROR)
    try:
        # Out of its standalone mode, typer returns the exit code: 130 after Ctrl-C.
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
        if code == _INTERRUPTED:
            _fail("interrupted", code)
        if code:
            sys.exit(code)
    except TyperException as error:
        if not error.format_message():  # a group without a command: its help has been printed
            sys.exit(_FAILED)
        _fail(f"{error.format_message()} (see --help)")
    except OSError as error:
        # What the system says, without its number.
        _fail(f"{error.strerror}: '{error.filename}'" if error.filename and error.strerror else str(error))
    except (ValueError, TypeError, ImportError) as error:
        _fail(str(error))
    except (KeyboardInterrupt, Abort):
        _fail("interrupted", _INTERRUPTED)
    except Exception as error:
        if not _is_of_resources(error):
            raise
        _fail(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no details'}")


def _is_of_resources(error: Exception) -> bool:
    """Whether memory, or what TensorFlow runs on, gave out."""
    tensorflow = sys.modules.get("tensorflow")
    return isinstance(error, MemoryError) or (
        tensorflow is not None and isinstance(error, tensorflow.errors.OpError)
    )


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"ddnn: warning: {message}", file=sys.stderr)


def _fail(message: str, code: int = _FAILED) -> None:
    print("ddnn: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(code)
