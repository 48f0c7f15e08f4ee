"""Check that a model can be registered, with a probe that is removed again, before hours of training."""

import logging
import socket
import tempfile
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.uri import is_databricks_unity_catalog_uri, is_databricks_uri, is_local_uri

from deepfm.errors import UserError
from deepfm.tracking.errors import failure_reason, to_job_error
from deepfm.tracking.uri import host_of, is_server, public_uri

#: Source of the probe's version, which MLflow stores without reading it. A server accepts artifacts of its
#: own only from a run, so this is an address elsewhere.
_PROBE_SOURCE = "s3://deepfm-probe/model"
#: What a server says that restricts the sources of versions. A real version has a source that it accepts.
_OTHER_SOURCE = "Invalid model version source"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RegistrationCheck:
    """Steps of a registration, tried on one store."""

    client: mlflow.MlflowClient
    uri: str  # with the password of a database
    registry_uri: str

    def check_all(self, name: str, experiment_id: str, artifact_location: str) -> None:
        """Raise UserError for the first step that the store refuses; its own errors if it is unreachable."""
        self.check_logged_models(experiment_id)
        self.check_registry(name)
        self.check_artifacts(artifact_location)

    def check_logged_models(self, experiment_id: str) -> None:
        """Check that the server knows the logged models of MLflow 3."""

        def search() -> None:
            self.client.search_logged_models([experiment_id], max_results=1)

        self._try(search, "find a logged model; MLflow 3 stores models as such", _upgrade_remedy)

    def check_registry(self, name: str) -> None:
        """Check that a version and an alias of the registered model `name` can be written."""
        probe = f"probe-{uuid.uuid4().hex[:8]}"
        versions = self._versions(name)
        if versions is None:
            self._check_new_model(f"{name}-{probe}")
        elif versions:
            version = max(versions, key=int)
            self._try(
                lambda: self.client.set_registered_model_alias(name, probe, version),
                f"set an alias of the model {name}",
                _alias_remedy,
            )
            self._remove(lambda: self.client.delete_registered_model_alias(name, probe), f"the alias {probe}")
        else:
            self._try(
                lambda: self.client.set_registered_model_tag(name, probe, ""),
                f"set a tag of the model {name}",
            )
            self._remove(lambda: self.client.delete_registered_model_tag(name, probe), f"the tag {probe}")

    def check_artifacts(self, location: str) -> None:
        """Check that files can be written where the artifacts of an experiment are."""
        if is_databricks_uri(self.uri):
            return  # it gives access to the folders of runs only
        if is_server(self.uri) and is_local_uri(location):
            self._require_shared_folder(location)
        with tempfile.TemporaryDirectory() as folder:
            probe = Path(folder, "probe.txt")
            probe.write_text("written to check that artifacts can be stored\n")
            repository_uri = f"{location.rstrip('/')}/deepfm-probe-{uuid.uuid4().hex[:8]}"

            def write() -> None:
                get_artifact_repository(repository_uri, tracking_uri=self.uri).log_artifact(str(probe))

            def remove() -> None:
                with suppress(NotImplementedError):  # some stores cannot delete
                    get_artifact_repository(repository_uri, tracking_uri=self.uri).delete_artifacts()

            self._try(write, f"write an artifact below {location}", _artifact_remedy)
            self._remove(remove, repository_uri)

    def _versions(self, name: str) -> list[str] | None:
        """Versions of a model; None if it does not exist."""
        try:
            self.client.get_registered_model(name)
        except MlflowException as error:
            if to_job_error(error):
                raise
            return None
        return [str(one.version) for one in self.client.search_model_versions(f"name = '{name}'")]

    def _check_new_model(self, probe: str) -> None:
        self._try(lambda: self.client.create_registered_model(probe), "create a registered model")
        try:
            if is_databricks_unity_catalog_uri(self.registry_uri):
                return  # it copies the files of a version, which do not exist yet
            self._try(lambda: self._add_version(probe), "write a model version and an alias", _alias_remedy)
        finally:
            self._remove(lambda: self.client.delete_registered_model(probe), f"the model {probe}")

    def _add_version(self, probe: str) -> None:
        try:
            version = self.client.create_model_version(probe, _PROBE_SOURCE)
        except MlflowException as error:
            if _OTHER_SOURCE in str(error):
                return
            raise
        self.client.set_registered_model_alias(probe, "probe", str(version.version))
        # A registry may refuse to delete a model that has an alias.
        self._remove(lambda: self.client.delete_registered_model_alias(probe, "probe"), "an alias")

    def _require_shared_folder(self, location: str) -> None:
        folder = Path(location.removeprefix("file://").removeprefix("file:"))
        if folder.exists() or _is_this_machine(host_of(self.uri)):
            return
        raise UserError(
            f"{public_uri(self.uri)}: its artifacts are in {folder} on the server's own disk, which does "
            "not exist here; start the server with --artifacts-destination, or mount the folder, and use a "
            "new --experiment"
        )

    def _remove(self, step: Callable[[], object], what: str) -> None:
        """Remove a probe; a registration itself removes nothing, so it may be forbidden."""
        try:
            step()
        except Exception as error:
            logger.warning("%s was not removed: %s", what, _shorten(failure_reason(error)))

    def _try(
        self, step: Callable[[], object], what: str, remedy: Callable[[Exception], str] | None = None
    ) -> None:
        try:
            step()
        except Exception as error:
            if failure := to_job_error(error):
                raise failure from error
            advice = remedy(error) if remedy else "ask the administrator of MLflow for the permission"
            raise UserError(
                f"{public_uri(self.uri)}: a trained model could not be registered there: failed to {what}: "
                f"{_shorten(failure_reason(error))}; {advice}"
            ) from error


def _shorten(reason: str) -> str:
    return reason if len(reason) <= 300 else f"{reason[:300]}…"


def _upgrade_remedy(error: Exception) -> str:
    return f"upgrade the MLflow server to {mlflow.__version__}, or use another --tracking-uri"


def _alias_remedy(error: Exception) -> str:
    return (
        "use a registry with aliases (on Databricks: Unity Catalog, mlflow.registry_uri: databricks-uc and "
        "--name CATALOG.SCHEMA.MODEL), or ask for the permission"
    )


def _artifact_remedy(error: Exception) -> str:
    return "give this user access, or start the server with --artifacts-destination"


def _is_this_machine(host: str) -> bool:
    """Whether a host name belongs to this machine: only its own addresses can be bound."""
    try:
        addresses = {entry[4][0] for entry in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    for address in addresses:
        family = socket.AF_INET6 if ":" in str(address) else socket.AF_INET
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
            return True
    return False
