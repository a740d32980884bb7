"""`ddnn evaluate`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ddnn_tf.cli import options
from ddnn_tf.cli.printing import new_table, print_json, show
from ddnn_tf.datasets import MultiViewDataset

if TYPE_CHECKING:
    from ddnn_tf.evaluation import Evaluation


def evaluate(run: options.RunPath, as_json: options.Json = False) -> None:
    """Measure a trained DDNN on its test data: accuracies, exits and bytes.

    Example:

        ddnn evaluate runs/scenes --json
    """
    from ddnn_tf.runs import load_run

    trained = load_run(run)
    loaded = trained.source.load()
    print_evaluation(trained.evaluate(loaded), loaded, trained.source.seed, as_json)


def print_evaluation(evaluation: Evaluation, data: MultiViewDataset, seed: int, as_json: bool) -> None:
    """Prints the measures, as tables or as JSON."""
    if as_json:
        described = {"data": data.name, "split": data.split_rule, "seed": seed, "classes": data.class_names}
        print_json({**evaluation.to_dict(), **described})
        return
    accuracies = new_table(
        f"Accuracy on {evaluation.test_samples} test samples",
        "where",
        "accuracy",
        "balanced accuracy",
        "T",
        "leave here",
    )
    for device, value in evaluation.individual_accuracy.items():
        accuracies.add_row(f"{device} alone", f"{value:.1%}")
    for tier, share in evaluation.exit_shares.items():
        threshold = evaluation.thresholds.get(tier)
        accuracies.add_row(
            f"{tier} exit",
            f"{evaluation.exit_accuracy[tier]:.1%}",
            f"{evaluation.exit_balanced_accuracy[tier]:.1%}",
            "" if threshold is None else f"{threshold:.2f}",
            f"{share:.1%}",
        )
    accuracies.add_section()
    accuracies.add_row(
        "overall",
        f"{evaluation.overall_accuracy:.1%}",
        f"{evaluation.overall_balanced_accuracy:.1%}",
    )
    recalls = new_table("Recall of each class, overall", "class", "test samples", "recall")
    counts = np.bincount(data.targets("test"), minlength=len(data.class_names))
    for name, count, recall in zip(data.class_names, counts, evaluation.class_recall, strict=True):
        recalls.add_row(name, str(count), "" if recall is None else f"{recall:.1%}")
    links = new_table("Communication", "link", "bytes per sample")
    for link, size in evaluation.bytes_per_link.items():
        links.add_row(link, f"{size:.1f}")
    links.add_section()
    links.add_row("per sample and device, Eq. (1)", f"{evaluation.bytes_per_sample:.1f}")
    links.add_row("raw input", f"{evaluation.bytes_per_sample * evaluation.reduction:.0f}")
    links.add_row("reduction", f"{evaluation.reduction:.1f}x")
    show(
        accuracies,
        recalls,
        links,
        f"Data: {data.name}, split {data.split_rule}. T was chosen on validation data.",
    )
