import numpy as np
import pytest

from tests.metrics.tiny_clip import make_clip, pictures
from tfsnap.metrics.features import clip_space, embed_all, fingerprint, inception_space, is_clip
from tfsnap.metrics.framing import squares
from tfsnap.metrics.retrieval import embed_images
from tfsnap.models.inception import build_inception


@pytest.fixture(scope="module")
def clip():
    return make_clip()


def test_clips_features_are_unit_vectors_of_the_framed_picture(clip):
    space, images = clip_space(clip), pictures(3, side=12)
    found = space.embed(images)
    assert found.shape == (3, space.width) and is_clip(space.name)
    framed = squares(images, 8).astype(np.float32) / 127.5 - 1
    np.testing.assert_allclose(found, embed_images(clip, framed), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)


def test_many_pictures_are_framed_before_the_network_sees_them(clip):
    space, images = clip_space(clip), pictures(300, side=16)
    found = embed_all(space, images, side=4)
    expected = space.embed(squares(images, 4))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.abs(found - space.embed(images)).max() > 1e-3


def test_fingerprints_tell_weights_apart(clip):
    before = fingerprint(clip)
    assert before == fingerprint(clip) == clip_space(clip).name.partition(":")[2]
    clip.logit_scale.assign_add(0.1)
    assert fingerprint(clip) != before


def test_inceptions_features_are_those_of_pictures_in_0_to_255():
    network = build_inception()
    space, images = inception_space(network), pictures(2)
    found = space.embed(images)
    assert found.shape == (2, space.width) and not is_clip(space.name)
    np.testing.assert_allclose(found, network(images.astype(np.float32)), rtol=1e-4, atol=1e-5)
