import subprocess
import sys

import pytest

# Fills and frees 40 buffers of 256 kB a hundred times in a thread, as a training step does its
# activations, and counts page faults.
SCRIPT = """
import resource, threading
from tfsnap.heap import keep_freed_memory
{call}
import numpy as np

def work():
    for _ in range(100):
        buffers = [np.ones(2**18, np.uint8) for _ in range(40)]
        del buffers

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
    # The buffers are 2,560 pages. Kept, they are faulted in once; returned, a hundred times.
    assert page_faults("keep_freed_memory()") < page_faults("") - 20_000
