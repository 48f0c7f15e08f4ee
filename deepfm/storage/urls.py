"""URLs of files and folders: one form that Spark, Petastorm and fsspec accept."""

import os
import re

from deepfm.errors import UserError

_MISSING_SLASHES = re.compile(r"(?!file:)[A-Za-z][A-Za-z0-9+.-]+:/(?!/)|file://(?!/)")
_GLOB_CHARACTERS = re.compile(r"[*?\[\]{}\\]")

#: user:password@ in a URL; abfss://container@account has no colon.
_PASSWORD = re.compile(r"^(\w[\w+.-]*://)[^/@:]*:.*@")
#: Schemes of Hadoop's S3 clients; fsspec and this project name the same objects s3://.
_HADOOP_S3 = re.compile(r"^s3[an]://")


def absolute_url(path: str) -> str:
    """Convert a path to a URL that Spark, Petastorm and fsspec all accept: `data/x` -> `file:///…/data/x`.

    URLs are returned without a trailing slash, `~` is expanded, and s3a:// and s3n:// become s3://. Raise
    UserError for a path that the three would read differently, and for a URL with a password, because URLs
    are written into datasets, runs and published days.
    """
    if _PASSWORD.match(path):
        redacted = _PASSWORD.sub(r"\1***@", path)
        raise UserError(
            f"{redacted}: expected a URL without a password; pass credentials by environment variables"
        )
    if _MISSING_SLASHES.match(path):
        example = "file:///x, hdfs:///x, hdfs://HOST/x or s3://BUCKET/x"
        raise UserError(f"{path}: slashes are missing in this URL; write it like {example}")
    if "://" in path:
        url = _HADOOP_S3.sub("s3://", path.rstrip("/"))
    else:
        url = "file://" + os.path.abspath(os.path.expanduser(path.removeprefix("file:")))
    if match := _GLOB_CHARACTERS.search(url):
        raise UserError(
            f"{url}: expected a path without * ? [ ] {{ }} or \\, which Spark reads as a glob pattern, "
            f"found {match[0]}; rename the file or folder"
        )
    return url


def local_path(url: str) -> str | None:
    """Path of a file:// URL, None for any other filesystem."""
    return url.removeprefix("file://") if url.startswith("file://") else None
