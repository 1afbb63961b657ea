"""The emoji as everybody gets them, and toy packages that go through the same code in no time."""

import pytest

from tests.data.toy_packages import make_packages
from tfsnap.data.examples import load_examples


@pytest.fixture(scope="session")
def toy_packages(session_dir):
    """Tarballs by `Tarball`, see `tests.data.toy_packages`."""
    folder = session_dir / "toy_packages"
    folder.mkdir()
    return make_packages(folder)


@pytest.fixture(scope="session")
def real_emoji():
    """All of the real data at 16 pixels, by split; fetched and drawn where that was not done."""
    return {
        split: load_examples(resolution=16, split=split, caption_variants=3)
        for split in ("train", "validation", "holdout")
    }
