"""One trainer for every objective, on tf.distribute."""
