"""Evaluation of a trained network, in the paper's terms."""

from ddnn_tf.evaluation.accuracy import Evaluation, choose_thresholds, evaluate, tier_probabilities

__all__ = ["Evaluation", "choose_thresholds", "evaluate", "tier_probabilities"]
