"""Each extra alone: what `pip install 'ddnn_tf[EXTRA]'` brings is enough for the extra's commands.

Every extra gets a virtual environment of its own. To install TensorFlow ten times would take longer than all
other tests together, so an environment holds links to the distributions of this one that the extra requires,
directly or through others, by their metadata. A dependency that an extra forgets is not there, just as on a
user's machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from collections import defaultdict
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path, PurePosixPath

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from small_data import write_pictures

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
PACKAGE = "ddnn_tf"
# What brings TensorFlow, which a device does not need.
TRAINING = ("tensorflow", "tf-keras", "larq")


def required(names: Iterable[str], extras: Iterable[str] = (), without: Iterable[str] = ()) -> set[str]:
    """Names of all distributions that some require, directly or through others, and of these themselves.

    Args:
        names: The distributions to start from.
        extras: Extras of these.
        without: Distributions that are left out, with all that only they require.
    """
    found: set[str] = set()
    seen: set[tuple[str, str]] = set()
    # Each with the extra that is asked for; "" stands for none.
    waiting = [(canonicalize_name(name), extra) for name in names for extra in ("", *extras)]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen or name in without:
            continue
        seen.add((name, extra))
        found.add(name)
        for text in metadata.requires(name) or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                child = canonicalize_name(requirement.name)
                waiting += [(child, own) for own in ("", *requirement.extras)]
    return found


class Environment:
    """A virtual environment with links to some of the distributions of this one.

    Args:
        directory: Where to make it.
        distributions: Their names.
    """

    def __init__(self, directory: Path, distributions: set[str]) -> None:
        venv.create(directory, symlinks=True)
        self.python = directory / "bin" / "python"
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        site = directory / "lib" / version / "site-packages"
        (site / "ddnn_tf.pth").write_text(f"{REPOSITORY}\n")
        owners: dict[str, set[str]] = defaultdict(set)
        files: dict[str, list[tuple[PurePosixPath, Path]]] = defaultdict(list)
        for distribution in metadata.distributions():
            name = canonicalize_name(distribution.metadata["Name"])
            for file in distribution.files or ():
                if file.parts[0] not in ("..", "__pycache__"):
                    owners[file.parts[0]].add(name)
                    files[name].append((file, Path(str(file.locate()))))
        for name in distributions - {canonicalize_name(PACKAGE)}:
            for file, place in files[name]:
                top = file.parts[0]
                # A directory that a distribution out of the environment shares is linked file by file.
                is_whole = owners[top] <= distributions
                depth = 1 if is_whole else len(file.parts)
                link = site / Path(*file.parts[:depth])
                link.parent.mkdir(parents=True, exist_ok=True)
                if not link.is_symlink():
                    link.symlink_to((place, *place.parents)[len(file.parts) - depth])

    def run(self, *command: object) -> subprocess.CompletedProcess[str]:
        """Runs Python in the environment."""
        return subprocess.run(
            [str(self.python), *map(str, command)],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": "", "PYTHONNOUSERSITE": "1"},
            check=False,
        )

    def ddnn(self, *arguments: object) -> str:
        """Runs `ddnn`, which must succeed; what it prints."""
        result = self.run("-m", "ddnn_tf.cli", *arguments)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def imports(self, *modules: str) -> None:
        """Imports modules and all modules in them, which must succeed."""
        code = (
            "import importlib, pkgutil, sys\n"
            "for name in sys.argv[1:]:\n"
            "    module = importlib.import_module(name)\n"
            "    for found in pkgutil.walk_packages(getattr(module, '__path__', ()), name + '.'):\n"
            "        importlib.import_module(found.name)\n"
        )
        result = self.run("-c", code, *modules)
        assert result.returncode == 0, result.stderr


def environment(directory: Path, *extras: str, without: Iterable[str] = ()) -> Environment:
    return Environment(directory, required([PACKAGE], extras, without))


@pytest.fixture(scope="module")
def run(mnist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two devices, trained in the environment without any extra."""
    bare = environment(tmp_path_factory.mktemp("bare"))
    directory = tmp_path_factory.mktemp("runs") / "mnist"
    bare.ddnn("data", "mnist", "--path", mnist)
    bare.ddnn("train", "--data", "mnist", "--path", mnist, "--devices", 2, "--epochs", 1, "--out", directory)
    bare.ddnn("evaluate", directory)
    return directory


def test_without_extras_each_command_names_the_extra_that_it_needs(
    run: Path, mnist: Path, tmp_path: Path
) -> None:
    bare = environment(tmp_path / "bare")
    write_pictures(tmp_path / "pictures", samples=3)
    out = ("--out", tmp_path / "x")
    train = ("train", "--data", "mnist", "--path", mnist, "--devices", 2, *out)
    for extra, arguments in {
        "c": ("export", run, *out, "--target", "c"),
        "evaluation": ("reproduce", "--data", "mnist", "--path", mnist, *out, "--only", "figure-6"),
        "lce": ("export", run, *out, "--target", "lce"),
        "micro": ("export", run, *out, "--target", "micro"),
        "optimization": (*train, "--cloud-precision", "float", "--sparsity", 0.5),
        "pictures": ("data", "folder", "--path", tmp_path / "pictures"),
        "placement": ("place", "single"),
        "runtime": ("cluster", run),
        "search": ("search", "--data", "mnist", "--path", mnist, *out),
        "tensorboard": (*train, "--tensorboard"),
        "tflite": ("export", run, *out, "--target", "tflite"),
    }.items():
        result = bare.run("-m", "ddnn_tf.cli", *arguments)
        assert result.returncode == 2, (extra, result.stderr)
        assert len(result.stderr.strip().splitlines()) == 1, (extra, result.stderr)
        assert f"ddnn_tf[{extra}]" in result.stderr, (extra, result.stderr)
        assert not (tmp_path / "x").exists()


def test_evaluation(mnist: Path, tmp_path: Path) -> None:
    alone = environment(tmp_path / "venv", "evaluation")
    alone.imports("ddnn_tf.evaluation")
    alone.ddnn(
        "reproduce", "--data", "mnist", "--path", mnist, "--only", "figure-6", "--quick",
        "--out", tmp_path / "x",
    )  # fmt: skip
    assert (tmp_path / "x" / "report.html").is_file()


@pytest.mark.parametrize(
    ("extra", "target"), [("c", "c"), ("lce", "lce"), ("micro", "micro"), ("tflite", "tflite")]
)
def test_export(run: Path, extra: str, target: str, tmp_path: Path) -> None:
    alone = environment(tmp_path / "venv", extra)
    bundle = tmp_path / "bundle.zip"
    alone.ddnn("export", run, "--out", bundle, "--target", target, "--section", "device_0")
    checks = json.loads(alone.ddnn("verify", bundle, "--json"))
    assert [(check["section"], check["target"]) for check in checks] == [("device_0", target)]


def test_optimization(mnist: Path, tmp_path: Path) -> None:
    alone = environment(tmp_path / "venv", "optimization")
    alone.imports("ddnn_tf.optimization")
    alone.ddnn(
        "train", "--data", "mnist", "--path", mnist, "--devices", 2, "--cloud-precision", "float",
        "--quantization-aware", "--epochs", 1, "--out", tmp_path / "run",
    )  # fmt: skip


def test_search(mnist: Path, tmp_path: Path) -> None:
    alone = environment(tmp_path / "venv", "search")
    alone.imports("ddnn_tf.search")
    alone.ddnn(
        "search", "--data", "mnist", "--path", mnist, "--devices", 2, "--epochs", 1, "--trials", 1,
        "--out", tmp_path / "x",
    )  # fmt: skip
    assert (tmp_path / "x" / "front.svg").is_file()


def test_tensorboard(mnist: Path, tmp_path: Path) -> None:
    alone = environment(tmp_path / "venv", "tensorboard")
    alone.ddnn(
        "train", "--data", "mnist", "--path", mnist, "--devices", 2, "--epochs", 1, "--tensorboard",
        "--out", tmp_path / "run",
    )  # fmt: skip
    assert list((tmp_path / "run" / "tensorboard").rglob("events.*"))


def test_pictures(tmp_path: Path) -> None:
    write_pictures(tmp_path / "pictures")
    page = tmp_path / "check.html"
    with_pictures = environment(tmp_path / "pictures_extra", "pictures")
    with_pictures.ddnn("data", "check", "folder", "--path", tmp_path / "pictures", "--html", page)
    assert page.is_file()


def test_placement(run: Path, tmp_path: Path) -> None:
    alone = environment(tmp_path / "venv", "placement")
    alone.imports("ddnn_tf.placement")
    alone.ddnn("place", "single", "--units", 12, "--out", tmp_path / "placed")
    assert list((tmp_path / "placed").glob("*.svg")) or list((tmp_path / "placed").glob("*.png"))
    units = [
        {"name": name, "type": kind, "position": [position, 0]}
        for position, (name, kind) in enumerate(
            (("left", "stm32h7"), ("right", "stm32h7"), ("hub", "pi_zero"), ("server", "jetson"))
        )
    ]
    network = {"units": units, "range_m": 5, "sensors": {"device_0": "left", "device_1": "right"}}
    (tmp_path / "net.yaml").write_text(yaml.safe_dump(network))
    plan = tmp_path / "plan.yaml"
    alone.ddnn("place", run, "--network", tmp_path / "net.yaml", "--out", plan)
    assert len(yaml.safe_load(plan.read_text())["processes"]) == 4


def test_runtime(run: Path, tmp_path: Path) -> None:
    alone = environment(tmp_path / "venv", "runtime")
    alone.imports("ddnn_tf.runtime")
    found = json.loads(alone.ddnn("cluster", run, "--samples", 5, "--json"))
    assert (found["answered"], found["errors"]) == (5, 0)


def test_a_deployment_needs_no_tensorflow(run: Path, mnist: Path, tmp_path: Path) -> None:
    """Everything that runs beside the sensors: all processes, their commands, and who asks them."""
    bundle = tmp_path / "bundle.zip"
    environment(tmp_path / "tflite", "tflite").ddnn("export", run, "--out", bundle, "--target", "tflite")
    device = environment(tmp_path / "venv", "runtime", without=TRAINING)
    assert device.run("-c", "import tensorflow").returncode == 1
    device.imports("ddnn_tf.runtime", "ddnn_tf.cli", "ddnn_tf.bundle", "ddnn_tf.datasets", "ddnn_tf.plan")
    for arguments in (("--help",), ("serve", "device", "--help"), ("classify", "--help")):
        assert "Usage" in device.ddnn(*arguments)
    assert "device_1" in device.ddnn("data", "mnist", "--path", mnist, "--devices", 2)
    found = json.loads(device.ddnn("cluster", bundle, "--samples", 5, "--json"))
    assert (found["answered"], found["errors"]) == (5, 0)
    device.ddnn("certs", bundle, "--out", tmp_path / "certs")


def test_notebooks(tmp_path: Path) -> None:
    """A notebook that trains and draws; each of ours runs in `test_notebooks.py`."""
    alone = environment(tmp_path / "venv", "notebooks")
    code = (
        "import nbformat, nbclient\n"
        "cell = nbformat.v4.new_code_cell('''\n"
        "import ddnn_tf\n"
        "import matplotlib.pyplot as plt\n"
        "plt.plot([1, 2])\n"
        "ddnn_tf.build(ddnn_tf.Topology.device_cloud()).output_names\n"
        "''')\n"
        "notebook = nbformat.v4.new_notebook(cells=[cell])\n"
        "nbclient.NotebookClient(notebook, timeout=300).execute()\n"
        "print(notebook.cells[0].outputs)\n"
    )
    result = alone.run("-c", code)
    assert result.returncode == 0, result.stderr
    assert "local" in result.stdout
