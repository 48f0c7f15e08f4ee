"""Versions of a day: the published one, the one that replaces it, and what killed runs left of either.

On a filesystem with a rename, the published version is in ds=DATE. In an object store, it stays where it was
written, and one small file names it.
"""

from deepfm import storage
from deepfm.errors import JobFailedError
from deepfm.ownership import exclusive_ownership
from deepfm.scoring.days import PROVENANCE, published_version
from deepfm.scoring.predict import SCORED
from deepfm.scoring.publishing.day_output import DayOutput

#: Days are first written below this folder; Spark readers skip names that begin with an underscore.
ATTEMPTS = "_attempts"
#: Folder of an attempt that holds the previously published day until the new one is in place.
REPLACED = "replaced"


def replace_day(output: DayOutput, attempt: str) -> None:
    """Make the day of an attempt visible, and keep the previous one in the attempt until then."""
    try:
        if storage.exists(output.url):
            _move(output.url, f"{attempt}/{REPLACED}")
        _move(f"{attempt}/{SCORED}", output.url)
    except FileNotFoundError as error:
        raise JobFailedError(
            f"{output.day}: the scored rows are gone: another run of this day has started since; run one at "
            "a time"
        ) from error


def _move(source: str, target: str) -> None:
    """Rename a day's folder; if a rename is a copy, write the file that marks the day as published last."""
    mark = f"{source}/{PROVENANCE}"
    if storage.has_atomic_rename(source) or not storage.exists(mark):
        storage.rename(source, target)
        return
    provenance = storage.read_bytes(mark)
    storage.remove(mark)
    storage.rename(source, target)
    storage.write_bytes(f"{target}/{PROVENANCE}", provenance)


def recover_day(output_url: str, day: str) -> None:
    """Restore the day that a killed job was replacing; raise JobFailedError if a job is doing so now."""
    url = f"{output_url}/ds={day}"
    if storage.is_object_store(output_url) or storage.exists(f"{url}/{PROVENANCE}"):
        return
    if not _attempts(output_url, day):
        return
    with exclusive_ownership(output_url, f"ds={day}", url, "choose another --output"):
        clear_attempts(output_url, day)


def clear_attempts(output_url: str, day: str) -> None:
    """Remove the attempts of killed runs of this day; if one was replacing the day, restore it.

    Without an atomic rename, a part of the day may be at either place. The file that marks a day as published
    is written last, so the folder that has it is complete: the previous version or, if that was not moved
    completely, the new one.
    """
    url = f"{output_url}/ds={day}"
    for attempt in _attempts(output_url, day):
        if storage.is_object_store(output_url):  # nothing was moved
            storage.remove(attempt)
            continue
        was_replacing = storage.exists(url) or storage.exists(f"{attempt}/{REPLACED}")
        for part in (REPLACED, SCORED):
            is_complete = storage.exists(f"{attempt}/{part}/{PROVENANCE}")
            if was_replacing and is_complete and not storage.exists(f"{url}/{PROVENANCE}"):
                storage.remove(url)
                _move(f"{attempt}/{part}", url)
        storage.remove(attempt)


def _attempts(output_url: str, day: str) -> list[str]:
    """URLs of the attempts of a day, without one that is its published version."""
    version = published_version(output_url, day)
    paths = [f"{ATTEMPTS}/{name}" for name in storage.all_names(f"{output_url}/{ATTEMPTS}")]
    paths = [path for path in paths if path.startswith(f"{ATTEMPTS}/ds={day}.")]
    return [f"{output_url}/{path}" for path in paths if version != f"{path}/{SCORED}"]
