"""A UNet of two contexts a call gives the predictions of two calls."""

import numpy as np
import pytest

from tfsnap.runtime.contexts import predict_each


@pytest.mark.parametrize("wanted", [1, 2, 3])
@pytest.mark.parametrize("contexts", [1, 2])
def test_predictions_belong_to_their_contexts(contexts, wanted):
    calls = []

    def unet(*, latent, time_features, context):
        calls.append(len(context))
        return latent + time_features[..., :1, None] * context[:, :1, :1, None]

    context = np.arange(1.0, wanted + 1)[:, None, None] * np.ones([1, 4, 5])
    found = predict_each(
        unet,
        contexts=contexts,
        latent=np.ones([1, 2, 3, 4]),
        time_features=np.full([1, 1, 6], 10.0),
        context=context,
    )
    assert calls == [contexts] * -(-wanted // contexts)
    assert found.shape == (wanted, 2, 3, 4)
    np.testing.assert_array_equal(found[:, 0, 0, 0], 1 + 10 * np.arange(1, wanted + 1))
