"""Inception's tensors, as pytorch-fid and torch-fidelity name them."""

import tf_keras as keras

from tfsnap.weights.names.table import Row, vector

_NORM = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def inception_rows(model: keras.Model) -> list[Row]:
    """The name table of a built `tfsnap.models.inception.Inception`."""
    rows = []
    for name, layer in model.convs.items():
        shape = tuple(layer.conv.kernel.shape)  # [kH, kW, in, out]
        torch_shape = (shape[3], shape[2], *shape[:2])
        theirs = f"{name}.conv.weight"
        rows.append(Row(f"{name}.conv.kernel", theirs, theirs, shape, torch_shape, kernel=True))
        for ours, their in _NORM.items():
            names = f"{name}.bn.{their}"
            rows.append(vector(f"{name}.bn.{ours}", names, names, shape[3]))
    return rows
