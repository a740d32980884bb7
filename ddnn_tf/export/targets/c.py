"""The targets `c` and `c-fixed`, which `ddnn_tf.export.c` makes: C99 for binary device sections."""

from __future__ import annotations

from ddnn_tf.export.c.target import C
from ddnn_tf.export.targets import register_target

__all__ = ["C"]

register_target(C())
register_target(C(fixed_point=True))
