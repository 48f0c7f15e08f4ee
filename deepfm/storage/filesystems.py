"""Filesystems of URLs, by fsspec."""

from typing import Any

import fsspec

from deepfm.errors import UserError
from deepfm.storage.urls import local_path

#: Extra of this package that installs the driver of a scheme.
_EXTRAS = {
    "s3": "s3",
    "s3a": "s3",
    "gs": "gcs",
    "gcs": "gcs",
    "abfs": "azure",
    "abfss": "azure",
    "az": "azure",
}
#: Retries of botocore: after about 1, 2, 4, 8 and 16 s at most, half of that on average. Its default of three
#: attempts gives up while S3 still throttles a prefix that became busy.
_S3_RETRIES = {"mode": "standard", "total_max_attempts": 6}


def open_filesystem(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """Filesystem and path of a URL, without cached listings: other processes write the same folders.

    Raise UserError if the filesystem is not available here.
    """
    scheme = url.partition("://")[0]
    try:
        filesystem, path = fsspec.core.url_to_fs(url, **(_s3_options() if scheme in ("s3", "s3a") else {}))
    except ImportError as error:
        remedy = f": pip install 'deepfm-spark[{_EXTRAS[scheme]}]'" if scheme in _EXTRAS else ""
        raise UserError(f"{url}: the driver of {scheme}:// is not installed ({error}){remedy}") from error
    except (ValueError, OSError) as error:
        raise UserError(f"{url}: cannot access its filesystem: {error}") from error
    if scheme in _EXTRAS:
        filesystem.invalidate_cache()
    return filesystem, path


def _s3_options() -> dict[str, Any]:
    """Options of s3fs; the other drivers are not known to take them, and forget their listings instead."""
    # FSSPEC_S3, which fsspec reads into this dictionary, may override the retries.
    config = {"retries": _S3_RETRIES} | fsspec.config.conf.get("s3", {}).get("config_kwargs", {})
    return {"use_listings_cache": False, "config_kwargs": config}


def is_object_store(url: str) -> bool:
    """Whether the URL is in an object store: writing an object is atomic, and there is no rename."""
    return url.partition("://")[0] in _EXTRAS


def has_atomic_rename(url: str) -> bool:
    """Whether `rename` is atomic on this filesystem."""
    return local_path(url) is not None or url.partition("://")[0] in ("local", "hdfs") or "://" not in url
