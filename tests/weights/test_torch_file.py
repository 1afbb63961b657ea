"""PyTorch's files: read without PyTorch, and refused where their pickle is more than tensors."""

import collections
import os
import zipfile

import numpy as np
import pytest
import torch

from tfsnap.weights.tensors import WeightFileError
from tfsnap.weights.torch_file import open_torch_file


def test_tensors_of_every_kind_are_what_torch_saved(tmp_path):
    path = tmp_path / "a.ckpt"
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    state = {
        "plain": base,
        "half": base.half(),
        "double": base.double(),
        "bfloat16": base.bfloat16() / 3,
        "long": base.long(),
        "bool": base > 3,
        "transposed": base.T,
        "view": base[1:3, 2:5],
        "every other": base[:, ::2],
        "expanded": base[:1].expand(3, 6),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "half view": base.bfloat16()[:, 1],
    }
    rest = {"global_step": 7, "score": np.float64(0.5)}
    torch.save({"state_dict": collections.OrderedDict(state), **rest}, path)
    found = open_torch_file(path)
    assert found.keys() == state.keys()
    for key, tensor in state.items():
        tensor = tensor.detach()
        expected = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
        assert found[key].shape == expected.shape and found[key].dtype == expected.dtype
        np.testing.assert_array_equal(found[key].read(), expected, err_msg=key)


def test_a_modules_state_dict_is_read(tmp_path):
    module = torch.nn.Linear(3, 2)
    torch.save(module.state_dict(), tmp_path / "a.bin")  # Has an attribute, _metadata.
    found = open_torch_file(tmp_path / "a.bin")
    np.testing.assert_array_equal(found["weight"].read(), module.weight.detach())


class Evil:
    """Runs a program when an ordinary unpickler reads it."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path):
    path, marker = tmp_path / "evil.ckpt", tmp_path / "ran"
    torch.save({"state_dict": {"w": torch.ones(2), "x": Evil(marker)}}, path)
    with pytest.raises(WeightFileError, match=r"asks for (posix|os)\.system"):
        open_torch_file(path)
    assert not marker.exists()


def checkpoint(path, program, storages=None):
    """A checkpoint with a hand-written pickle."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", program)
        for key, content in (storages or {}).items():
            archive.writestr(f"archive/data/{key}", content)
    return path


STORAGE = (
    b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK%ctQ"
)
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"


def tensor_program(count=4, offset=0, size=4, stride=1):
    """Builds one vector; numbers are single bytes."""
    storage = STORAGE.replace(b"%c", bytes([count]))
    numbers = b"K%c(K%ct(K%ct" % (offset, size, stride)
    return b"\x80\x02}X\x01\x00\x00\x00w" + REBUILD + b"(" + storage + numbers + b"\x89NtRs."


REFUSED = {
    "eval": (b"cbuiltins\neval\n(V1+1\ntR.", r"asks for builtins\.eval"),
    "getattr": (b"cbuiltins\ngetattr\n(}Vupdate\ntR.", r"asks for builtins\.getattr"),
    "stack global": (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", r"asks for os\.system"),
    "instance": (b"(Vls\nios\nsystem\n.", r"asks for os\.system"),
    "attribute of what is allowed": (
        b"\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.fromkeys\x93.",
        r"asks for collections\.OrderedDict\.fromkeys",
    ),
    "changed function": (REBUILD + b"(N}V__call__\nNstb.", "damaged|tries to set"),
    "changed type": (b"ctorch\nFloatStorage\n(N}Vdtype\nNstb.", "damaged"),
    "unknown reference": (b"Vanything\nQ.", "refers to 'anything'"),
    "a tensor of nothing": (REBUILD + b"(NK\x00(K\x04t(K\x01ttR.", "something else than a storage"),
    "extension": (b"\x82\x01.", "damaged"),
    "cut off": (b"\x80\x02}X", "damaged"),
    "nothing": (b"\x80\x02}.", "holds no state dict"),
    "a number": (b"K\x01.", "holds no state dict"),
    "behind its storage": (tensor_program(size=5), "reaches behind its 4 elements"),
    "at an offset": (tensor_program(offset=1), "reaches behind"),
    "by its stride": (tensor_program(size=3, stride=2), "reaches behind"),
    "storage of another size": (tensor_program(count=5), "has 16 bytes for 5 elements"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_more_than_tensors_is_refused(name, tmp_path):
    program, message = REFUSED[name]
    path = checkpoint(tmp_path / "a.ckpt", program, {"0": b"\0" * 16})
    with pytest.raises(WeightFileError, match=message) as error:
        open_torch_file(path)
    assert str(path) in str(error.value)


def test_the_hand_written_tensor_would_be_read(tmp_path):
    content = np.arange(4, dtype="<f4").tobytes()
    found = open_torch_file(checkpoint(tmp_path / "a.ckpt", tensor_program(), {"0": content}))
    np.testing.assert_array_equal(found["w"].read(), [0, 1, 2, 3])


def test_damaged_and_old_files_are_named(tmp_path):
    path = tmp_path / "a.ckpt"
    with pytest.raises(WeightFileError, match="no such weight file"):
        open_torch_file(path)
    torch.save({"w": torch.ones(1000)}, path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightFileError, match="truncated"):
        open_torch_file(path)
    torch.save({"w": torch.ones(10)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(WeightFileError, match=r"version 1\.6 or newer"):
        open_torch_file(path)
    checkpoint(path, tensor_program())
    with pytest.raises(WeightFileError, match="bytes of storage 0 are missing"):
        open_torch_file(path)
