"""Data: fetching, the TFDS builder, captions and tf.data pipelines."""
