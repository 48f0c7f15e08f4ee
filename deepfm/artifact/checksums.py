"""A folder's own list of its files: what is loaded is what was saved, to the byte."""

import hashlib

from deepfm import storage
from deepfm.errors import UserError

SEAL = "files.json"
#: Of the folder as a whole: what a reader must know to read it.
FORMAT_VERSION = 1


def write_checksums(folder_url: str) -> None:
    """List every file in a folder, with size and SHA-256; written last."""
    names = [child["name"] for child in storage.children(folder_url) if child["name"] != SEAL]
    files = {name: _fingerprint(storage.read_bytes(f"{folder_url}/{name}")) for name in names}
    storage.write_json(f"{folder_url}/{SEAL}", {"format_version": FORMAT_VERSION, "files": files})


def verify_checksums(folder_url: str) -> None:
    """UserError unless a folder holds what was sealed, and this code knows its format."""
    where = f"{folder_url}/{SEAL}"
    try:
        document = storage.read_json(where)
        version, files = document["format_version"], dict(document["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{where}: expected a model of this project, found {error}; check the model's URI"
        ) from error
    if version != FORMAT_VERSION:
        raise UserError(
            f"{where}: expected a model of format {FORMAT_VERSION}, found {version}; it was registered by "
            "another version of this project: use that one, or register the model again"
        )
    for name, expected in files.items():
        try:
            found = _fingerprint(storage.read_bytes(f"{folder_url}/{name}"))
        except OSError as error:
            raise UserError(
                f"{folder_url}/{name}: expected a file of {expected['num_bytes']} bytes, found none; "
                "register the model again"
            ) from error
        if found != expected:
            raise UserError(
                f"{folder_url}/{name}: expected {expected['num_bytes']} bytes with SHA-256 "
                f"{expected['sha256'][:12]}…, found {found['num_bytes']} with {found['sha256'][:12]}…; the "
                "model was damaged or changed: register it again"
            )


def digest_of(folder_url: str) -> str:
    """Of a sealed folder's content: the same for the same model, wherever it lies."""
    return hashlib.sha256(storage.read_bytes(f"{folder_url}/{SEAL}")).hexdigest()[:16]


def _fingerprint(content: bytes) -> dict:
    return {"num_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
