"""What the paper printed, as data: `paper.json`, each number with the table or figure it stands in.

Source: Teerapittayanon et al. 2017 (arXiv 1709.01921), Tables I and II, Figures 8 to 10 (values of
the authors' plotting data, kunglab/ddnn) and the README of the authors' PyTorch code.
"""

from __future__ import annotations

import functools
import json
from importlib import resources
from typing import Any

__all__ = ["RAW_BYTES", "paper"]

RAW_BYTES = 3072
"""Bytes of the paper's raw image, 32x32 RGB (Section IV-H)."""


@functools.cache
def paper(item: str) -> list[dict[str, Any]]:
    """The rows of one of the paper's tables or figures.

    Args:
        item: `table_1_aggregation`, `table_2_threshold`, `figure_8_scaling`, `figure_9_offloading`,
            `figure_10_fault` or `missing_devices`.
    """
    content = json.loads(resources.files(__package__).joinpath("paper.json").read_text("utf-8"))
    if item == "missing_devices":
        return list(content["pytorch_branch_readme_mnist"]["rows"])
    return list(content[item])
