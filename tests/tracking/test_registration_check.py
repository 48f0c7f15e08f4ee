"""A registration is checked with a probe that leaves nothing behind."""

from pathlib import Path

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import ENDPOINT_NOT_FOUND, INVALID_PARAMETER_VALUE, TEMPORARILY_UNAVAILABLE

from deepfm.errors import UserError
from deepfm.tracking.registration_check import RegistrationCheck, _is_this_machine
from deepfm.tracking.store import MlflowStore
from deepfm.tracking.uri import TrackingUnavailableError


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("registration")
    return MlflowStore(f"sqlite:///{folder}/mlflow.db", str(folder / "artifacts"))


def check_of(store, client_type=mlflow.MlflowClient):
    uri = store.uri
    return RegistrationCheck(client_type(tracking_uri=uri, registry_uri=uri), uri, uri)


def files_of(store):
    folder = store.uri.removeprefix("sqlite:///").removesuffix("/mlflow.db") + "/artifacts"
    return [path for path in Path(folder).rglob("*") if path.is_file()]


def test_a_new_model_leaves_no_model_experiment_or_file(store):
    store.check_registration("new", "new experiment")
    assert store.client.search_registered_models() == []
    assert store.client.get_experiment_by_name("new experiment") is None
    assert files_of(store) == []


@pytest.mark.parametrize("num_versions", [0, 2])
def test_an_existing_model_keeps_its_versions_aliases_and_tags(store, num_versions):
    name = f"existing {num_versions}"
    store.client.create_registered_model(name)
    for _ in range(num_versions):
        store.client.create_model_version(name, source="file:///x")
    store.check_registration(name, "Default")
    model = store.client.get_registered_model(name)
    assert (model.aliases, model.tags) == ({}, {})
    assert len(store.client.search_model_versions(f"name = '{name}'")) == num_versions


class OldServer(mlflow.MlflowClient):
    """A server of MLflow 2, which has no logged models."""

    def search_logged_models(self, *arguments, **settings):
        raise MlflowException("failed with error code 404 != 200", ENDPOINT_NOT_FOUND)


class WithoutAliases(mlflow.MlflowClient):
    """A registry such as that of a Databricks workspace."""

    def set_registered_model_alias(self, *arguments):
        raise MlflowException("aliases are not supported", INVALID_PARAMETER_VALUE)


class Overloaded(mlflow.MlflowClient):
    def create_registered_model(self, *arguments):
        raise MlflowException("try later", TEMPORARILY_UNAVAILABLE)


class WithoutDeletion(mlflow.MlflowClient):
    def delete_registered_model(self, *arguments):
        raise MlflowException("deletion is forbidden", INVALID_PARAMETER_VALUE)


def test_a_probe_that_cannot_be_removed_is_a_warning(store, caplog):
    check_of(store, WithoutDeletion).check_registry("undeletable")
    assert "was not removed: deletion is forbidden" in caplog.text
    (probe,) = [one for one in store.client.search_registered_models() if one.name.startswith("undeletable-")]
    store.client.delete_registered_model(probe.name)


class WithRestrictedSources(mlflow.MlflowClient):
    """A server whose administrator set MLFLOW_CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX."""

    def create_model_version(self, name, source, **settings):
        raise MlflowException(f"Invalid model version source: '{source}'.", INVALID_PARAMETER_VALUE)


def test_a_server_that_restricts_the_sources_of_versions_is_not_refused(store):
    check_of(store, WithRestrictedSources).check_registry("new")
    assert store.client.search_registered_models("name LIKE 'new%'") == []


def test_a_server_without_logged_models_is_refused(store):
    with pytest.raises(UserError, match="find a logged model.*404.*upgrade the MLflow server to"):
        check_of(store, OldServer).check_all("new", "0", "/nowhere")


@pytest.mark.parametrize("name", ["new", "existing 2"])
def test_a_registry_without_aliases_is_refused_and_the_probe_removed(store, name):
    before = len(store.client.search_registered_models())
    with pytest.raises(UserError, match="alias.*are not supported; use a registry with aliases"):
        check_of(store, WithoutAliases).check_registry(name)
    assert len(store.client.search_registered_models()) == before


def test_an_overloaded_registry_is_unavailable_not_refused(store):
    with pytest.raises(TrackingUnavailableError, match="try later"):
        check_of(store, Overloaded).check_registry("new")


def test_a_place_for_artifacts_that_cannot_be_written_is_refused(store, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="write an artifact below .*/file.*give this user access"):
        check_of(store).check_artifacts(f"{tmp_path}/file")


def test_artifacts_on_the_disk_of_another_machine_are_refused(store, tmp_path):
    remote = RegistrationCheck(store.client, "http://mlflow.example:5000", "")
    with pytest.raises(UserError, match="artifacts are in /srv/no-such-folder on the server's own disk"):
        remote.check_artifacts("file:///srv/no-such-folder")
    remote.check_artifacts(str(tmp_path))  # a mounted folder


def test_only_addresses_of_this_machine_are_its_own():
    assert _is_this_machine("localhost") and _is_this_machine("127.0.0.1")
    assert not _is_this_machine("192.0.2.1") and not _is_this_machine("no-such-host.invalid")
