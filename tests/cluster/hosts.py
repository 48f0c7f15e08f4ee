"""Simulated hosts on one machine: network namespaces, each with a link to a switch."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from standalone import ROOT, Host

#: Script that runs a command on a host, with its name and /etc/hosts, and without the folders {hidden}.
_RUN_ON_HOST = """
hostname {name}
mount --bind {hosts} /etc/hosts
for folder in {hidden}; do mount -t tmpfs none $folder; done
exec "$@"
"""


def missing_requirement() -> str | None:
    """Return the reason why this machine cannot simulate hosts, or None."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    probe = f"probe-{os.getpid()}"
    try:
        subprocess.run(["ip", "netns", "add", probe], check=True, capture_output=True)
        subprocess.run(["unshare", "--uts", "--mount", "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"network namespaces do not work here: {error}"
    finally:
        subprocess.run(["ip", "netns", "delete", probe], capture_output=True, check=False)
    return None


class Network:
    """A switch and its hosts: the first submits jobs, the others cannot see the code of this checkout."""

    def __init__(self, folder: Path, names: list[str]):
        self._prefix = f"ctr{os.getpid()}"
        self._switch = f"{self._prefix}-switch"
        self._folder, self._names = folder, names
        self.addresses = {name: f"10.77.0.{number}" for number, name in enumerate(names, start=1)}

    def host(self, name: str) -> Host:
        """Return a host for starting processes on it."""
        hidden = "" if name == self._names[0] else f"{ROOT}/deepfm {ROOT}/jobs"
        script = _RUN_ON_HOST.format(name=name, hosts=self._folder / "hosts", hidden=hidden)
        command = ("unshare", "--uts", "--mount", "--propagation", "private", "sh", "-c", script, "sh")
        return Host(self.addresses[name], ("ip", "netns", "exec", self._space(name), *command))

    def disconnect(self, name: str) -> None:
        """Drop all packets from and to the host, without closing connections."""
        self._run("-n", self._switch, "link", "set", name, "down")

    def reconnect(self, name: str) -> None:
        """Undo `disconnect`."""
        self._run("-n", self._switch, "link", "set", name, "up")

    def _space(self, name: str) -> str:
        return f"{self._prefix}-{name}"

    def _run(self, *words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True, text=True)

    def build(self) -> None:
        """Create the switch, then each host with its link."""
        lines = ["127.0.0.1 localhost", *(f"{address} {name}" for name, address in self.addresses.items())]
        (self._folder / "hosts").write_text("\n".join([*lines, ""]))
        self._run("netns", "add", self._switch)
        self._run("-n", self._switch, "link", "add", "bridge0", "type", "bridge")
        self._run("-n", self._switch, "link", "set", "bridge0", "up")
        for name in self._names:
            self._add_host(name)

    def _add_host(self, name: str) -> None:
        space = self._space(name)
        self._run("netns", "add", space)
        link = ("type", "veth", "peer", "name", "eth0", "netns", space)
        self._run("-n", self._switch, "link", "add", name, *link)
        self._run("-n", self._switch, "link", "set", name, "master", "bridge0", "up")
        self._run("-n", space, "address", "add", f"{self.addresses[name]}/24", "dev", "eth0")
        for interface in ("lo", "eth0"):
            self._run("-n", space, "link", "set", interface, "up")

    def remove(self) -> None:
        """Remove all namespaces, also after a failed `build`."""
        for space in (self._switch, *map(self._space, self._names)):
            subprocess.run(["ip", "netns", "delete", space], capture_output=True, check=False)


@contextmanager
def network(folder: Path, names: list[str]) -> Iterator[Network]:
    """Create hosts with these names for the duration of the block."""
    hosts = Network(folder, names)
    try:
        hosts.build()
        yield hosts
    finally:
        hosts.remove()
