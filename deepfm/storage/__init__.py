"""File access on any fsspec filesystem (file, hdfs, s3, gs, …), for driver and workers, without Spark.

A path without a scheme is a local file, whatever the cluster's default filesystem.
"""

from deepfm.storage.compressed import (
    first_line,
    first_lines,
    open_decompressed,
)
from deepfm.storage.errors import FAILURES, explain_errors
from deepfm.storage.filesystems import (
    has_atomic_rename,
    is_object_store,
    open_filesystem,
)
from deepfm.storage.reading import (
    all_names,
    children,
    exists,
    folder_bytes,
    is_folder,
    num_bytes,
    open_file,
    read_bytes,
    read_json,
    read_range,
)
from deepfm.storage.urls import (
    absolute_url,
    local_path,
)
from deepfm.storage.writing import (
    atomic_writer,
    make_folder,
    remove,
    remove_empty_folder,
    rename,
    scratch_folder,
    write_bytes,
    write_json,
)

__all__ = [
    "FAILURES",
    "absolute_url",
    "all_names",
    "atomic_writer",
    "children",
    "exists",
    "explain_errors",
    "first_line",
    "first_lines",
    "folder_bytes",
    "has_atomic_rename",
    "is_folder",
    "is_object_store",
    "local_path",
    "make_folder",
    "num_bytes",
    "open_decompressed",
    "open_file",
    "open_filesystem",
    "read_bytes",
    "read_json",
    "read_range",
    "remove",
    "remove_empty_folder",
    "rename",
    "scratch_folder",
    "write_bytes",
    "write_json",
]
