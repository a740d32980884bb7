"""Loading a saved Keras model that is made of Keras, Larq and DDNN layers.

    >>> model = ddnn_tf.load_model("runs/scenes/model.keras")  # doctest: +SKIP

`tf.keras.models.load_model` loads it as well: importing `ddnn_tf` registers these layers. Here the layers of
plug-ins' aggregation schemes are known too, and what cannot be loaded is one sentence.
"""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf

from ddnn_tf.schemes import SCHEMES

__all__ = ["load_model"]


def load_model(path: str | Path, *, compile: bool = True) -> tf.keras.Model:
    """Loads a model that `model.save` wrote.

    Args:
        path: A `.keras` or `.h5` file, or the directory of a SavedModel.
        compile: As of `tf.keras.models.load_model`: compiles it as it was when it was saved, for which a loss
            or a metric of your own must be registered with Keras.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It cannot be loaded; the message says why.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"There is no model '{path}': save one with `model.save('model.keras')`.")
    if Path(path, "model.keras").is_file():
        raise ValueError(f"'{path}' is a run directory: load its network, '{Path(path, 'model.keras')}'.")
    # The layers of a scheme from outside the package need not be registered with Keras.
    layers = {SCHEMES[name].layer_class.__name__: SCHEMES[name].layer_class for name in SCHEMES}
    try:
        model = tf.keras.models.load_model(str(path), custom_objects=layers, compile=compile)
    except Exception as error:  # Keras raises whatever its reader met
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        if "batch_shape" in reason:  # which only Keras 3 writes
            reason = "it was saved by Keras 3, but Larq and ddnn_tf need one of Keras 2 (`tf.keras`)"
        raise ValueError(f"'{path}' is not a Keras model that can be read: {reason}.") from None
    if not isinstance(model, tf.keras.Model):
        raise ValueError(
            f"'{path}' is a SavedModel of a function, not a Keras model: save the model with `model.save`."
        )
    return model
