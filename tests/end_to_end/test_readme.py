"""Every command and every example in README and documents runs as it stands, in order, in one directory.

Blocks marked `sh` and `python` run; those of one document share a Python process. The comment
`<!-- not run: reason -->` in front of a block leaves it out. Small files of the same format stand in for data
that a reader downloads.
"""

from __future__ import annotations

import ast
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from small_data import write_epfl, write_mfeat, write_occupancy, write_pictures

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
DOCUMENTS = (
    "README.md",
    "docs/data.md",
    "docs/hierarchies.md",
    "docs/recipes.md",
    "docs/reproduction.md",
    "docs/devices.md",
    "docs/deployment.md",
    "docs/doubt.md",
    "docs/placement.md",
    "tflite/firmware/README.md",
    "tflite/gateway/README.md",
)
_BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<reason>.*?) -->\n)?```(?P<language>sh|python)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
# Processes that a block leaves in the background say so once they can be asked.
_READY = re.compile(r"^\S+ is ready\.$", re.MULTILINE)
_BACKGROUND_DEADLINE_S = 120
# Runs the files that stdin names, one after the other, and answers each with an empty line or a traceback.
_NOTEBOOK = """
import contextlib, sys, traceback
names = {"__name__": "__main__"}
for line in sys.stdin:
    error = ""
    try:
        with contextlib.redirect_stdout(sys.stderr), open(line.rstrip()) as block:
            exec(compile(block.read(), block.name, "exec"), names)
    except Exception:
        error = traceback.format_exc()
    print(repr(error), flush=True)
"""


@dataclass(frozen=True)
class Block:
    """A block of a document.

    Attributes:
        document: Its path in the repository.
        line: Its first line.
        language: `sh` or `python`.
        code: Its content.
        reason: Why it is not run; None: it is.
    """

    document: str
    line: int
    language: str
    code: str
    reason: str | None

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def blocks(document: str) -> list[Block]:
    text = (REPOSITORY / document).read_text(encoding="utf-8")
    return [
        Block(
            document,
            text.count("\n", 0, match.start("code")),
            match["language"],
            match["code"],
            match["reason"],
        )
        for match in _BLOCK.finditer(text)
    ]


ALL = [block for document in DOCUMENTS for block in blocks(document)]


class Reader:
    """A reader who types everything into one terminal and one notebook for each document."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._notebooks: dict[str, subprocess.Popen[str]] = {}
        self._shells: list[subprocess.Popen[bytes]] = []

    def run(self, block: Block) -> None:
        if block.language == "python":
            self._run_python(block)
        else:
            self._run_shell(block)

    def close(self) -> None:
        """Ends what runs in the background."""
        for notebook in self._notebooks.values():
            notebook.kill()
            notebook.communicate()
        for shell in self._shells:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGTERM)

    def _run_python(self, block: Block) -> None:
        if block.document not in self._notebooks:
            self._notebooks[block.document] = subprocess.Popen(
                [sys.executable, "-c", _NOTEBOOK],
                cwd=self.directory,
                env={**os.environ, "PYTHONPATH": str(self.directory)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        notebook = self._notebooks[block.document]
        code = self.directory / f"{Path(block.document).stem}-{block.line}.py"
        code.write_text(block.code, encoding="utf-8")
        assert notebook.stdin is not None
        assert notebook.stdout is not None
        print(code, file=notebook.stdin, flush=True)
        answer = notebook.stdout.readline()
        assert answer, "the process ended"
        error = ast.literal_eval(answer)
        assert not error, error

    def _run_shell(self, block: Block) -> None:
        log = self.directory / f"{Path(block.document).stem}-{block.line}.log"
        jobs = log.with_suffix(".jobs")
        with open(log, "wb") as stream:
            shell = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", f"{block.code}\njobs -p > {jobs}"],
                cwd=self.directory,
                env={**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._shells.append(shell)
        assert shell.wait() == 0, log.read_text()
        # As a reader does, wait until every process in the background is ready.
        deadline = time.monotonic() + _BACKGROUND_DEADLINE_S
        while len(_READY.findall(log.read_text())) < len(jobs.read_text().split()):
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """A reader in a directory that looks like a checkout with the data that README names."""
    directory = tmp_path_factory.mktemp("reader")
    (directory / "ddnn_tf").symlink_to(REPOSITORY / "ddnn_tf")
    shutil.copytree(REPOSITORY / "tflite", directory / "tflite", ignore=shutil.ignore_patterns("build"))
    write_occupancy(directory / "occupancy.csv")
    write_mfeat(directory / "mfeat.npz")
    write_pictures(directory / "pictures")
    write_epfl(directory / "epfl_six_cameras.npz")
    reader = Reader(directory)
    yield reader
    reader.close()


def test_few_blocks_are_not_run() -> None:
    left_out = {str(block): block.reason for block in ALL if block.reason is not None}
    assert len(left_out) <= 4, left_out
    assert len(ALL) - len(left_out) >= 20


@pytest.mark.parametrize("block", [block for block in ALL if block.reason is None], ids=str)
def test_block(block: Block, reader: Reader) -> None:
    reader.run(block)


def test_links_lead_somewhere() -> None:
    for document in DOCUMENTS:
        text = (REPOSITORY / document).read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
            assert ((REPOSITORY / document).parent / target).exists(), f"{document}: {target}"


def test_the_picture_is_the_one_that_the_command_draws(reader: Reader) -> None:
    drawn = (reader.directory / "room.svg").read_text(encoding="utf-8")
    assert drawn == (REPOSITORY / "docs" / "room.svg").read_text(encoding="utf-8")
