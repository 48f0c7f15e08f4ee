"""The check of an MLflow server uses the TLS and proxy settings of MLflow's own client."""

import http.server
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from deepfm.errors import UserError
from deepfm.tracking.connection import connect
from deepfm.tracking.uri import (
    TrackingUnavailableError,
    absolute_uri,
    host_of,
    public_uri,
    scheme_of,
    with_installed_driver,
)

VARIABLES = ("MLFLOW_TRACKING_SERVER_CERT_PATH", "REQUESTS_CA_BUNDLE", "MLFLOW_TRACKING_INSECURE_TLS")


class EmptyStoreHandler(http.server.BaseHTTPRequestHandler):
    """Answers each request like a store without experiments."""

    status, body = 200, b"{}"

    def do_POST(self):
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *arguments):
        pass


class ForbiddingHandler(EmptyStoreHandler):
    status, body = 403, b"<html>Forbidden by the proxy</html>"


@contextmanager
def serving(handler: type, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """Serve on a free port of loopback during the block -> port."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Certificate, signed by itself, and key of 127.0.0.1."""
    folder = tmp_path_factory.mktemp("tls")
    files = ["-keyout", folder / "key.pem", "-out", folder / "cert.pem"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *files, *names]
    subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.fixture
def https_uri(certificate, monkeypatch):
    """A store behind TLS with a certificate that this machine does not know."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    with serving(EmptyStoreHandler, context) as port:
        yield f"https://127.0.0.1:{port}"


@pytest.mark.parametrize("variable", VARIABLES)
def test_the_tls_settings_of_mlflow_are_used(https_uri, certificate, monkeypatch, variable):
    monkeypatch.setenv(variable, "true" if "INSECURE" in variable else str(certificate / "cert.pem"))
    assert connect(https_uri, None, retry_s=0.1).search_experiments() == []


def test_an_unknown_certificate_is_reported_at_once_with_the_variable_to_set(https_uri):
    with pytest.raises(UserError, match=r"127\.0\.0\.1.*self-signed.*set MLFLOW_TRACKING_SERVER_CERT_PATH"):
        connect(https_uri, None, retry_s=30)


def test_a_proxy_that_refuses_is_named_without_its_password(monkeypatch):
    with serving(ForbiddingHandler) as port:
        monkeypatch.setenv("http_proxy", f"http://user:secret@127.0.0.1:{port}")
        monkeypatch.setenv("no_proxy", "")
        with pytest.raises(UserError) as raised:
            connect("http://mlflow.example:5000", None, retry_s=0.1)
    proxy = f"(through the proxy http://127.0.0.1:{port}; NO_PROXY=mlflow.example avoids it)"
    assert proxy in str(raised.value) and "secret" not in str(raised.value)


def test_a_proxy_that_does_not_answer_is_named(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(
        TrackingUnavailableError, match=r"proxy http://127\.0\.0\.1:9; NO_PROXY=mlflow\.example"
    ):
        connect("http://mlflow.example:5000", None, retry_s=0.1)


@pytest.mark.parametrize(
    ("uri", "scheme"),
    [
        ("mysql+pymysql://h/d", "mysql"),
        ("arn:aws:sagemaker:x", "arn"),
        ("databricks", ""),
        ("HTTP://h", "http"),
    ],
)
def test_a_scheme_has_no_driver(uri, scheme):
    assert scheme_of(uri) == scheme


def test_a_relative_sqlite_path_becomes_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute_uri("sqlite:///a/m.db?timeout=3") == f"sqlite:///{tmp_path}/a/m.db?timeout=3"
    assert absolute_uri("sqlite:////a/m.db") == "sqlite:////a/m.db"
    assert absolute_uri("http://host/m") == "http://host/m"


def test_credentials_are_removed_for_messages():
    assert public_uri("postgresql://u:p@host:5432/db") == "postgresql://host:5432/db"


@pytest.mark.parametrize(
    ("uri", "host"),
    [("http://h:1/x", "h"), ("http://", ""), ("http://h:port", ""), ("https://[::1]:5", "::1")],
)
def test_the_host_of_a_server_is_empty_if_it_is_invalid(uri, host):
    assert host_of(uri) == host


def test_a_postgresql_uri_names_the_driver_that_is_installed():
    assert with_installed_driver("postgresql://h/d") == "postgresql+psycopg2://h/d"
    assert with_installed_driver("postgresql+psycopg://h/d") == "postgresql+psycopg://h/d"
