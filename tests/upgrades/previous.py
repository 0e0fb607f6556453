"""The sources of the version before, saved by `hack/save-previous`."""

import tarfile
from pathlib import Path

__all__ = ["unpack_previous"]

ARCHIVE = Path(__file__).with_name("previous.tar.xz")


def unpack_previous(folder: Path) -> Path:
    """Put them into a folder that exists; returns it."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder
