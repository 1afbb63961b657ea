import numpy as np
import pytest

from tfsnap.metrics.features import FeatureSpace
from tfsnap.metrics.reference import Reference, load_reference, save_reference

SPACE = FeatureSpace("clip:abc", 4, None)
FEATURES = np.random.default_rng(0).standard_normal([9, 4]).astype(np.float32)


def made(space=SPACE, side=16):
    return Reference.of(FEATURES, space=space, side=side)


def test_a_file_holds_everything(tmp_path):
    path = tmp_path / "new" / "r.npz"
    save_reference(path, made())
    found = load_reference(path)
    np.testing.assert_array_equal(found.features, FEATURES)
    np.testing.assert_allclose(found.moments.mean, FEATURES.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(found.moments.covariance, np.cov(FEATURES.T), atol=1e-6)
    assert (found.moments.count, found.space, found.side) == (9, "clip:abc", 16)
    found.check(SPACE, side=16, source="r")
    assert not found.is_inception
    assert [file.name for file in path.parent.iterdir()] == ["r.npz"]


def test_pytorch_fids_file_is_inceptions(tmp_path):
    """What `python -m pytorch_fid --save-stats` writes: np.savez_compressed of mu and sigma."""
    path = tmp_path / "fid.npz"
    np.savez_compressed(path, mu=np.ones(2048), sigma=np.eye(2048))
    found = load_reference(path)
    assert found.is_inception and found.features is None and found.moments.count is None
    found.check(FeatureSpace("inception:x", 2048, None), side=256, source="fid")
    with pytest.raises(ValueError, match="fid has features 2048 wide; those of clip:abc are 4"):
        found.check(SPACE, side=256, source="fid")


def test_what_does_not_fit_is_told():
    with pytest.raises(ValueError, match="made with clip:abc, not with clip:def: other weights"):
        made().check(SPACE._replace(name="clip:def"), side=16, source="r")
    with pytest.raises(ValueError, match="pictures of 16 x 16 pixels, not 8 x 8"):
        made().check(SPACE, side=8, source="r")
    with pytest.raises(ValueError, match="1 pictures have no covariance"):
        Reference.of(FEATURES[:1], space=SPACE, side=16)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"mu": np.ones(4)}, r"holds \['mu'\]; statistics have mu and sigma"),
        ({"mu": np.ones(4), "sigma": np.eye(3)}, "do not fit each other"),
        ({"mu": np.ones([4, 1]), "sigma": np.eye(4)}, "do not fit each other"),
        ({"mu": np.full(2048, np.nan), "sigma": np.eye(2048)}, "mu or sigma is not finite"),
        ({"mu": np.ones(4), "sigma": np.eye(4)}, "4 wide and does not say of which network"),
        ({"mu": np.array([{}], object), "sigma": np.eye(1)}, "pickled Python objects, .* refused"),
    ],
)
def test_other_files_are_refused(arrays, message, tmp_path):
    np.savez(tmp_path / "r.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        load_reference(tmp_path / "r.npz")


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "r.npz"
    with pytest.raises(FileNotFoundError, match="no such file of statistics"):
        load_reference(path)
    save_reference(path, made())
    content = path.read_bytes()
    for damaged in (content[:-40], b"", b"text", content[:30] + b"\0" * 300 + content[330:]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="is no complete .npz file"):
            load_reference(path)
    np.save(tmp_path / "one.npy", np.ones(3))
    (tmp_path / "one.npy").rename(path)
    with pytest.raises(ValueError, match="is no complete .npz file"):
        load_reference(path)
