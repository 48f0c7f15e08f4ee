"""Checksums of the files of a model folder, stored in files.json and verified when the model is loaded."""

import hashlib

from deepfm import storage
from deepfm.errors import UserError

CHECKSUMS = "files.json"
#: Version of the folder's format.
FORMAT_VERSION = 1


def write_checksums(folder_url: str) -> None:
    """Write size and SHA-256 of every file in a folder; call this last."""
    names = [child["name"] for child in storage.children(folder_url) if child["name"] != CHECKSUMS]
    files = {name: _fingerprint(storage.read_bytes(f"{folder_url}/{name}")) for name in names}
    storage.write_json(f"{folder_url}/{CHECKSUMS}", {"format_version": FORMAT_VERSION, "files": files})


def verify_checksums(folder_url: str) -> None:
    """Raise UserError if a folder differs from its checksums or has an unknown format."""
    url = f"{folder_url}/{CHECKSUMS}"
    try:
        document = storage.read_json(url)
        version, files = document["format_version"], dict(document["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{url}: expected a model of this project, found {error}; check the model's URI"
        ) from error
    if version != FORMAT_VERSION:
        raise UserError(
            f"{url}: expected a model of format {FORMAT_VERSION}, found {version}; it was registered by "
            "another version of this project: use that one, or register the model again"
        )
    for name, expected in files.items():
        try:
            actual = _fingerprint(storage.read_bytes(f"{folder_url}/{name}"))
        except OSError as error:
            raise UserError(
                f"{folder_url}/{name}: expected a file of {expected['num_bytes']} bytes, found none; "
                "register the model again"
            ) from error
        if actual != expected:
            raise UserError(
                f"{folder_url}/{name}: expected {expected['num_bytes']} bytes with SHA-256 "
                f"{expected['sha256'][:12]}…, found {actual['num_bytes']} with {actual['sha256'][:12]}…; "
                "the model is damaged or was changed: register it again"
            )


def folder_digest(folder_url: str) -> str:
    """Return a digest of a model folder's content, independent of its location."""
    return hashlib.sha256(storage.read_bytes(f"{folder_url}/{CHECKSUMS}")).hexdigest()[:16]


def _fingerprint(content: bytes) -> dict:
    return {"num_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
