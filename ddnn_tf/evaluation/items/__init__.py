"""The tables and figures: one module each, which registers itself (`ddnn_tf.evaluation.item`)."""
