"""The tiny bundle of the runtime's tests."""

import pytest

from tests.runtime.processes import make_tiny_bundle


@pytest.fixture(scope="session")
def tiny_bundle(session_dir):
    return make_tiny_bundle(session_dir) / "tiny"
