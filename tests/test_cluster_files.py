"""Files in conf/cluster and the cluster profiles; linters check more if they are available."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from deepfm.cli.train import train
from deepfm.settings.deployment import Profile
from deepfm.settings.loader import load_settings

CONF = Path(__file__).resolve().parents[1] / "conf"
CLUSTER = CONF / "cluster"
PROFILES = sorted(path for path in (CONF / "profile").glob("*.yaml") if path.stem != "local")
MANIFEST = list(yaml.safe_load_all((CLUSTER / "train_job.yaml").read_text()))


def by_kind(kind, name=None):
    documents = [document for document in MANIFEST if document["kind"] == kind]
    (match,) = [document for document in documents if name in (None, document["metadata"]["name"])]
    return match


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_the_command_in_a_cluster_profile_has_valid_flags(path):
    header = path.read_text().partition("\nspark:")[0]
    assert f"conf/profile/{path.name}" in header and "spark-submit" in header.replace("_", "-")
    assert "spark.task.resource.gpu.amount" in header
    assert ("Not tested" in header) or ("Tested by make test-cluster" in header)
    options = {name for parameter in train.params for name in parameter.opts}
    after = header.partition("jobs/train.py")[2].partition("# GPUs")[0]
    assert set(re.findall(r"(--[a-z][a-z-]+)", after)) - options == set()


@pytest.mark.parametrize(
    "path", [path for path in PROFILES if path.stem != "databricks"], ids=lambda p: p.stem
)
def test_a_cluster_profile_authenticates_and_encrypts(path):
    spark = load_settings(path, Profile).spark
    for key in ("spark.authenticate", "spark.network.crypto.enabled", "spark.io.encryption.enabled"):
        assert spark[key] is True
    assert not [key for key in spark if "secret" in key or "password" in key]


def test_the_kubernetes_job_has_valid_flags_and_the_accounts_of_its_profile():
    (driver,) = by_kind("Job")["spec"]["template"]["spec"]["containers"]
    words = driver["args"]
    flags = {word.partition("=")[0] for word in words[words.index("jobs/train.py") + 1 :]}
    options = {name for parameter in train.params for name in parameter.opts}
    assert flags <= options
    spark = load_settings(CONF / "profile/kubernetes.yaml", Profile).spark
    account = spark["spark.kubernetes.authenticate.driver.serviceAccountName"]
    assert by_kind("Job")["spec"]["template"]["spec"]["serviceAccountName"] == account
    assert [subject["name"] for subject in by_kind("RoleBinding")["subjects"]] == [account]
    assert by_kind("ServiceAccount", account)
    assert {document["metadata"]["namespace"] for document in MANIFEST} == {
        spark["spark.kubernetes.namespace"]
    }


def test_executors_have_a_separate_account_without_rights():
    spark = load_settings(CONF / "profile/kubernetes.yaml", Profile).spark
    account = spark["spark.kubernetes.authenticate.executor.serviceAccountName"]
    assert by_kind("ServiceAccount", account)["automountServiceAccountToken"] is False
    assert account not in [subject["name"] for subject in by_kind("RoleBinding")["subjects"]]


def test_executors_of_concurrent_jobs_have_different_names():
    """Spark generates a prefix for each application if none is set."""
    spark = load_settings(CONF / "profile/kubernetes.yaml", Profile).spark
    assert "spark.kubernetes.executor.podNamePrefix" not in spark


def fake(folder, name, script):
    """Write a fake program; return an environment in which it is first on the PATH."""
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}


def output_of(command, env):
    return subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout


def test_the_discovery_script_prints_every_gpu_in_sparks_format(tmp_path):
    env = fake(tmp_path, "nvidia-smi", "printf '0\\n1\\n3\\n'")
    assert json.loads(output_of([CLUSTER / "find_gpus.sh"], env)) == {
        "name": "gpu",
        "addresses": ["0", "1", "3"],
    }


def executor_variables():
    names = "DRIVER_URL EXECUTOR_ID EXECUTOR_CORES APPLICATION_ID EXECUTOR_POD_IP RESOURCE_PROFILE_ID"
    variables = {f"SPARK_{name}": name.lower() for name in [*names.split(), "EXECUTOR_POD_NAME", "HOME"]}
    options = {f"SPARK_JAVA_OPT_{number}": f"-Dnumber={number} with a space" for number in (10, 9)}
    return variables | options | {"SPARK_EXECUTOR_MEMORY": "2g"}


def test_an_executor_pod_starts_java_with_the_options_in_its_variables(tmp_path):
    env = fake(tmp_path, "java", 'for word; do echo "$word"; done') | executor_variables()
    words = output_of([CLUSTER / "entrypoint.sh", "executor"], env).splitlines()
    assert words[:4] == ["-Dnumber=9 with a space", "-Dnumber=10 with a space", "-Xms2g", "-Xmx2g"]
    backend = words.index("org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend")
    flags = dict(zip(words[backend + 1 :: 2], words[backend + 2 :: 2], strict=True))
    assert flags["--driver-url"] == "driver_url" and flags["--podName"] == "executor_pod_name"


def test_an_executor_starts_in_a_writable_folder(tmp_path):
    """On Spark's scratch volume: the user cannot write the folder of the image."""
    (tmp_path / "a volume").mkdir()
    scratch = {"SPARK_LOCAL_DIRS": f"{tmp_path}/a volume,/elsewhere"}
    env = fake(tmp_path, "java", "pwd; touch unpacked") | executor_variables() | scratch
    folder = Path(output_of([CLUSTER / "entrypoint.sh", "executor"], env).removesuffix("\n"))
    assert folder.parent == tmp_path / "a volume" and (folder / "unpacked").exists()


def test_the_secret_is_appended_to_settings_that_only_their_owner_can_read(tmp_path):
    text = (CONF.parent / "docs/security.md").read_text()
    (script,) = [block.partition("```")[0] for block in text.split("```sh\n")[1:]]
    settings = tmp_path / "spark-defaults.conf"
    settings.write_text("spark.local.dir /scratch")
    env = fake(tmp_path, "openssl", "echo 0a1b") | {"SPARK_CONF_DIR": str(tmp_path)}
    output_of(["sh", "-c", script], env)
    lines = settings.read_text().splitlines()
    assert lines[:2] == ["spark.local.dir /scratch", "spark.authenticate true"]
    assert lines[2] == "spark.authenticate.secret 0a1b"
    assert settings.stat().st_mode & 0o777 == 0o600


WRITE = """
import sys
from pyspark.sql import SparkSession
builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
if sys.argv[2:]:
    builder = builder.config("spark.hadoop.fs.permissions.umask-mode", sys.argv[2])
builder.getOrCreate().range(1).write.parquet(sys.argv[1])
"""


@pytest.mark.slow
@pytest.mark.parametrize(("mask", "mode"), [([], 0o644), (["027"], 0o640)])
def test_files_written_by_spark_follow_its_property_and_not_the_umask(tmp_path, mask, mode):
    env = {name: value for name, value in os.environ.items() if not name.startswith(("SPARK_", "PYSPARK_"))}
    command = [sys.executable, "-c", WRITE, f"file://{tmp_path}/rows", *mask]
    subprocess.run(command, env=env, umask=0o077, check=True, capture_output=True)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "rows").glob("part-*")} == {mode}


def test_any_other_argument_of_the_image_is_a_command():
    assert output_of([CLUSTER / "entrypoint.sh", "echo", "as it", "is"], None) == "as it is\n"


@pytest.mark.parametrize(
    ("variable", "file"), [("HADOLINT", "Dockerfile"), ("KUBERNETES_VALIDATE", "train_job.yaml")]
)
def test_the_cluster_files_pass_their_linters(variable, file):
    linter = os.environ.get(variable)
    if not linter:
        pytest.skip(f"{variable}=path/to/{variable.lower().replace('_', '-')} is needed to check {file}")
    done = subprocess.run([linter, CLUSTER / file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
