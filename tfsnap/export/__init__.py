"""From Keras models to a bundle that phones run."""
