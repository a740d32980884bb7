"""Search: which topologies and recipes give most accuracy for the fewest bytes, within limits.

    >>> from ddnn_tf.datasets import DataSource
    >>> found = search("runs/search", DataSource(name="scenes"), trials=20, epochs=20)  # doctest: +SKIP
    >>> [(point.title, point.validation.accuracy) for point in found.front]  # doctest: +SKIP

Optuna draws candidates out of a `Space`; those that break one of the `Limits` whatever their weights are not
trained. Validation samples alone guide the search; test samples are looked at once, for the networks on the
front that it ends with. The study is a file of Optuna's, which other tools of Optuna read:

    >>> optuna.load_study(study_name="search", storage="sqlite:///runs/search/study.db")  # doctest: +SKIP

Source: Akiba et al. 2019, Optuna; Ozaki et al. 2020, multi-objective tree-structured Parzen estimator.
"""

from ddnn_tf.search.limits import Limits, device_footprints
from ddnn_tf.search.results import Found, Measures, Point, open_search
from ddnn_tf.search.space import Candidate, Range, Space
from ddnn_tf.search.study import search

__all__ = [
    "Candidate",
    "Found",
    "Limits",
    "Measures",
    "Point",
    "Range",
    "Space",
    "device_footprints",
    "open_search",
    "search",
]
