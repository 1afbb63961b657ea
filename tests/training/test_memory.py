import subprocess
import sys

import pytest

# Allocates and frees 20 MB fifty times in a thread, as TensorFlow does, and counts page faults.
SCRIPT = """
import resource, threading
from tfsnap.training.memory import keep_freed_memory
{call}
import numpy as np

def work():
    for _ in range(50):
        np.ones(20 * 2**20, np.uint8)

thread = threading.Thread(target=work)
thread.start()
thread.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def page_faults(call):
    script = SCRIPT.format(call=call)
    return int(
        subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout
    )


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc is Linux's")
def test_freed_memory_is_used_again_without_page_faults():
    # 20 MB are 5,120 pages. Kept, they are faulted in once; returned, up to fifty times.
    assert page_faults("keep_freed_memory()") < page_faults("") - 20_000
