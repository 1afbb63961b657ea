import numpy as np
import pytest
import tensorflow as tf

from tfsnap.config import ClipConfig, ClipImageConfig, ClipTextConfig
from tfsnap.models.clip import build_clip

CONFIG = ClipConfig(
    text=ClipTextConfig(vocab_size=50, context_length=6, width=16, layers=2, heads=2),
    image=ClipImageConfig(resolution=8, patch=4, width=16, layers=1, heads=2),
    embedding_width=12,
)


@pytest.fixture(scope="module")
def clip():
    clip = build_clip(CONFIG)
    rng = np.random.default_rng(0)
    for variable in clip.variables:
        if variable.shape.rank:
            variable.assign_add(0.3 * rng.standard_normal(variable.shape))
    return clip


def test_text_encoder_is_causal(clip):
    tokens = np.array([[48, 1, 2, 3, 49, 0]], np.int32)
    changed = np.array([[48, 1, 2, 7, 49, 0]], np.int32)
    a, b = (clip.text_encoder(tf.constant(t)).numpy() for t in (tokens, changed))
    np.testing.assert_allclose(a[:, :3], b[:, :3], atol=1e-6)
    assert np.abs(a[:, 3:] - b[:, 3:]).max() > 1e-2


def test_text_is_pooled_at_the_end_token(clip):
    tokens = np.array([[48, 1, 2, 49, 0, 0]], np.int32)
    padded_otherwise = np.array([[48, 1, 2, 49, 5, 6]], np.int32)
    a, b = (clip.embed_text(tf.constant(t)).numpy() for t in (tokens, padded_otherwise))
    np.testing.assert_allclose(a, b, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(a, axis=-1), 1.0, rtol=1e-5)
    shorter = np.array([[48, 1, 49, 2, 0, 0]], np.int32)
    assert np.abs(clip.embed_text(tf.constant(shorter)).numpy() - a).max() > 1e-2


def test_batches_of_text_keep_their_rows(clip):
    tokens = np.random.default_rng(0).integers(0, 50, [3, 6]).astype(np.int32)
    together = clip.text_encoder(tf.constant(tokens)).numpy()
    for row in range(3):
        alone = clip.text_encoder(tf.constant(tokens[row : row + 1])).numpy()
        np.testing.assert_allclose(together[row : row + 1], alone, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 12), (3, 2)])
def test_tokens_of_another_length_are_refused(clip, shape):
    """Cut into rows of the right one they would be other texts."""
    tokens = tf.zeros(shape, tf.int32)
    for reader in (clip.text_encoder, clip.embed_text, tf.function(clip.text_encoder)):
        with pytest.raises(ValueError, match=r"shape .*; this text encoder reads 6 a text"):
            reader(tokens)


def test_image_embeddings_are_unit_vectors_that_see_every_patch(clip):
    image = np.random.default_rng(0).uniform(-1, 1, [1, 8, 8, 3]).astype(np.float32)
    base = clip.embed_image(tf.constant(image)).numpy()
    np.testing.assert_allclose(np.linalg.norm(base, axis=-1), 1.0, rtol=1e-5)
    for y, x in [(0, 0), (0, 7), (7, 0), (7, 7)]:
        changed = image.copy()
        changed[0, y, x] *= -3
        assert np.abs(clip.embed_image(tf.constant(changed)).numpy() - base).max() > 1e-4
