"""Which versions of the bundle format there are, and which a bundle needs."""

OLDEST = 1  # That this tfsnap reads.
# Several sizes, chunks and guidance in one call came with 2, smaller vocabularies with 3.
NEWEST = 3


def check_version(version: object) -> None:
    """Raises ValueError, with what to do, unless a manifest's `format_version` can be read."""
    if type(version) is not int or version < 1:
        raise ValueError(f"format_version is {version!r}; it must be a positive integer")
    if version > NEWEST:
        raise ValueError(
            f"the bundle has format_version {version} and this tfsnap reads up to {NEWEST}: "
            "upgrade tfsnap"
        )
    if version < OLDEST:
        raise ValueError(
            f"the bundle has format_version {version} and this tfsnap reads {OLDEST} and later: "
            "export it again with tools/export.py of this tfsnap"
        )
