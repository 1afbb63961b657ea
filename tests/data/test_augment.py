import numpy as np
import pytest
import tf_keras as keras

from tfsnap.data.augment import AugmentConfig, Augmenter

SIDE, BATCH = 20, 64
BLACK = np.zeros([BATCH, SIDE, SIDE, 3], np.uint8)
NOISE = np.random.default_rng(0).integers(0, 256, BLACK.shape, dtype=np.uint8)


def augment(images, *, seed=0, **config):
    augmenter = Augmenter(AugmentConfig(**config))
    amounts = augmenter.draw(len(images), np.array([seed, 1], np.int64))
    return augmenter(images=images, amounts=amounts).numpy()


def test_no_change_is_the_identity():
    changed = augment(NOISE)
    assert changed.dtype == np.float32
    np.testing.assert_array_equal(changed, NOISE)


@pytest.mark.parametrize("config", [{"translation": 1e-7}, {"zoom": 1e-7}])
def test_next_to_no_change_is_next_to_the_identity(config):
    """Through keras-cv's layers: they are neither off by a pixel nor by a scale."""
    np.testing.assert_allclose(augment(NOISE, **config), NOISE, atol=0.01)


@pytest.mark.parametrize("config", [{"translation": 0.2}, {"zoom": 0.2}])
def test_the_seed_chooses_and_each_picture_changes_by_itself(config):
    changed = augment(BLACK, **config)
    np.testing.assert_array_equal(augment(BLACK, **config), changed)
    assert not np.array_equal(augment(BLACK, seed=1, **config), changed)
    assert len({picture.tobytes() for picture in changed}) > BATCH // 4


def test_a_picture_changes_alike_whichever_it_is_with():
    augmenter = Augmenter(AugmentConfig(translation=0.2, zoom=0.2))
    amounts = np.random.default_rng(1).uniform(-1, 1, [BATCH, 3])
    together = augmenter(images=NOISE, amounts=amounts).numpy()
    for rows in ([5], [7, 3, 60]):
        apart = augmenter(images=NOISE[rows], amounts=amounts[rows])
        np.testing.assert_array_equal(apart, together[rows])


def test_a_policy_for_networks_leaves_pictures_alone():
    expected = augment(NOISE, zoom=0.2)
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        np.testing.assert_array_equal(augment(NOISE, zoom=0.2), expected)
    finally:
        keras.mixed_precision.set_global_policy("float32")


def test_shifts_fill_with_white_and_reach_their_limit():
    changed = augment(BLACK, translation=0.25)
    assert changed.min() == 0.0 and changed.max() == 255.0
    white = changed[..., 0] > 254.0  # [B, R, R]
    rows, columns = white.all(axis=2).sum(axis=1), white.all(axis=1).sum(axis=1)  # Of each picture.
    for gaps in (rows, columns):
        assert gaps.max() in (4, 5) and gaps.min() == 0  # 0.25 of 20 pixels.
    assert white[:, 0].all(axis=1).any() and white[:, -1].all(axis=1).any()  # Up and down.
    assert white[:, :, 0].all(axis=1).any() and white[:, :, -1].all(axis=1).any()


def test_zooms_keep_the_centre_and_the_proportions():
    disc = np.hypot(*np.mgrid[-9.5:10, -9.5:10]) < 6
    images = np.where(disc[None, :, :, None], BLACK, np.uint8(255))
    dark = augment(images, zoom=0.3)[..., 0] < 128
    sizes = np.sqrt(dark.sum(axis=(1, 2)) / disc.sum())
    assert 0.65 < sizes.min() < 0.85 and 1.15 < sizes.max() < 1.5
    places = np.argwhere(dark)
    np.testing.assert_allclose(places[:, 1:].mean(axis=0), 9.5, atol=0.3)
    heights, widths = dark.any(axis=2).sum(axis=1), dark.any(axis=1).sum(axis=1)
    assert np.abs(heights - widths).max() <= 2


def test_pictures_are_never_flipped_or_turned():
    images = BLACK.copy()
    images[:, :, SIDE // 2 :] = (255, 0, 0)  # Red to the right,
    images[:, SIDE // 2 :, :, 1] = 255  # green below.
    changed = augment(images, translation=0.2, zoom=0.2)[:, 5:15, 5:15]
    half = changed.shape[1] // 2
    assert (changed[:, :, half:, 0].mean(axis=(1, 2)) > changed[:, :, :half, 0].mean((1, 2))).all()
    assert (changed[:, half:, :, 1].mean(axis=(1, 2)) > changed[:, :half, :, 1].mean((1, 2))).all()


@pytest.mark.parametrize("field", ["translation", "zoom"])
@pytest.mark.parametrize("value", [-0.1, 1.0])
def test_amounts_out_of_range_are_named(field, value):
    with pytest.raises(ValueError, match=f"AugmentConfig.{field} is {value}"):
        AugmentConfig(**{field: value})
