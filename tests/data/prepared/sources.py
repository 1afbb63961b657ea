"""Small sources of pictures for the tests of readers and of prepared sets."""

import io
import tarfile

import numpy as np
from PIL import Image


def picture(number, size=(24, 20)):
    """Pixels that tell pictures apart, uint8 [H, W, 3]: one colour each, a gradient over it."""
    random = np.random.default_rng(number)
    colour = random.integers(40, 216, 3)
    return (
        colour + np.linspace(-30, 30, size[0])[:, np.newaxis] * np.ones([size[1], 1, 1])
    ).astype(np.uint8)


def png(number, size=(24, 20)):
    """A picture as a file."""
    file = io.BytesIO()
    Image.fromarray(picture(number, size)).save(file, "PNG")
    return file.getvalue()


def write_folder(folder, count, *, sizes=((24, 20),)):
    """Pictures with captions beside them, some in subfolders."""
    for number in range(count):
        path = folder / ("cats" if number % 3 else "") / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(number, sizes[number % len(sizes)]))
        path.with_suffix(".txt").write_text(f"picture {number}\nthe {number}th\n")


def write_tar(path, members, mode="w"):
    """A tar of {name: bytes}, with the pax headers that WebDataset's writer makes."""
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), 1.5
            archive.addfile(info, io.BytesIO(content))


def example(number):
    """The members of one example of a WebDataset."""
    return {f"{number:04d}.png": png(number), f"{number:04d}.txt": f"picture {number}".encode()}


class Listed:
    """A reader of given entries."""

    kind, place = "listed", "the list"

    def __init__(self, entries):
        self.entries = entries
        self.total = len(entries)

    def __iter__(self):
        return iter(self.entries)
