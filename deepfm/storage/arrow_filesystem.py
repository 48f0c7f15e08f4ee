"""An fsspec filesystem with the interface that Petastorm expects: pyarrow's former one."""

from pyarrow.filesystem import DaskFileSystem

from deepfm.storage.filesystems import is_object_store, open_filesystem


class _FormerFileSystem(DaskFileSystem):
    """Adds what the class of pyarrow leaves out."""

    def isfile(self, path: str) -> bool:
        return self.fs.isfile(path)

    def isdir(self, path: str) -> bool:
        return self.fs.isdir(path)


def petastorm_filesystem(url: str) -> DaskFileSystem | None:
    """Filesystem to pass to Petastorm for an object store; None: Petastorm finds its own.

    Petastorm would pass fsspec's to pyarrow with options that pyarrow 14 only takes with its former ones.
    """
    return _FormerFileSystem(open_filesystem(url)[0]) if is_object_store(url) else None
