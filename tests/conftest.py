"""What every test shares: a quiet TensorFlow on two logical CPU devices, and the `large` marker."""

import os
import sys
from pathlib import Path

import pytest

# Read when TensorFlow is first imported, by whichever test module does so.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tfsnap  # noqa: F401  (chooses Keras 2, as every entry point does)


def pytest_addoption(parser):
    parser.addoption("--large", action="store_true", help="also run the tests marked large")


def pytest_collection_modifyitems(config, items):
    """Leaves out the large tests unless --large or an expression (-m large) asks for them."""
    if config.getoption("--large") or config.getoption("-m"):
        return
    large = [item for item in items if item.get_closest_marker("large")]
    if large:
        items[:] = [item for item in items if item not in large]
        config.hook.pytest_deselected(items=large)


def pytest_collection_finish():
    """Hides GPUs and splits the CPU in two, for the replicas of tf.distribute.

    This must come before TensorFlow's first operation, so after the test modules are imported and
    before the first test. A run of tests that do without TensorFlow never pays for importing it.
    """
    if "tensorflow" in sys.modules:
        import tensorflow as tf

        tf.config.set_visible_devices([], "GPU")
        (cpu,) = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * 2
        )


@pytest.fixture(scope="session")
def session_dir(tmp_path_factory) -> Path:
    """A folder for what is made once and read by several tests, such as an exported bundle."""
    return tmp_path_factory.mktemp("session")
