"""What the tests of the search share."""

import pytest

from tests.evolve.tiny_search import write_networks


@pytest.fixture(scope="session")
def networks(tmp_path_factory):
    """Weight files of networks that nobody trained, and their latency table."""
    folder = tmp_path_factory.mktemp("networks")
    write_networks(folder)
    return folder
