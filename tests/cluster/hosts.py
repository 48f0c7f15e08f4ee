"""Hosts of their own on one machine: network namespaces, each with a cable to a switch."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from standalone import ROOT, Host

#: What enters a host: its network, its name, its /etc/hosts, and none of the folders of {hidden}.
_ENTER = """
hostname {name}
mount --bind {hosts} /etc/hosts
for folder in {hidden}; do mount -t tmpfs none $folder; done
exec "$@"
"""


def obstacle() -> str | None:
    """Why this machine cannot have such hosts."""
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
    """A switch and the hosts on it: the first submits jobs, the others cannot see the clone's code."""

    def __init__(self, folder: Path, names: list[str]):
        self._prefix = f"ctr{os.getpid()}"
        self._switch = f"{self._prefix}-switch"
        self._folder, self._names = folder, names
        self.addresses = {name: f"10.77.0.{number}" for number, name in enumerate(names, start=1)}

    def host(self, name: str) -> Host:
        """How processes are started there."""
        hidden = "" if name == self._names[0] else f"{ROOT}/deepfm {ROOT}/jobs"
        script = _ENTER.format(name=name, hosts=self._folder / "hosts", hidden=hidden)
        inside = ("unshare", "--uts", "--mount", "--propagation", "private", "sh", "-c", script, "sh")
        return Host(self.addresses[name], ("ip", "netns", "exec", self._space(name), *inside))

    def pull_cable(self, name: str) -> None:
        """Nothing leaves or reaches the host from now on, and nobody is told."""
        self._run("-n", self._switch, "link", "set", name, "down")

    def plug_cable(self, name: str) -> None:
        """It reaches the others again."""
        self._run("-n", self._switch, "link", "set", name, "up")

    def _space(self, name: str) -> str:
        return f"{self._prefix}-{name}"

    def _run(self, *words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True, text=True)

    def build(self) -> None:
        """The switch, then each host with its cable."""
        lines = ["127.0.0.1 localhost", *(f"{address} {name}" for name, address in self.addresses.items())]
        (self._folder / "hosts").write_text("\n".join([*lines, ""]))
        self._run("netns", "add", self._switch)
        self._run("-n", self._switch, "link", "add", "bridge0", "type", "bridge")
        self._run("-n", self._switch, "link", "set", "bridge0", "up")
        for name in self._names:
            self._plug_in(name)

    def _plug_in(self, name: str) -> None:
        space = self._space(name)
        self._run("netns", "add", space)
        cable = ("type", "veth", "peer", "name", "eth0", "netns", space)
        self._run("-n", self._switch, "link", "add", name, *cable)
        self._run("-n", self._switch, "link", "set", name, "master", "bridge0", "up")
        self._run("-n", space, "address", "add", f"{self.addresses[name]}/24", "dev", "eth0")
        for interface in ("lo", "eth0"):
            self._run("-n", space, "link", "set", interface, "up")

    def remove(self) -> None:
        """Also what a failed `build` left."""
        for space in (self._switch, *map(self._space, self._names)):
            subprocess.run(["ip", "netns", "delete", space], capture_output=True, check=False)


@contextmanager
def network(folder: Path, names: list[str]) -> Iterator[Network]:
    """Hosts of these names for the time of the block."""
    built = Network(folder, names)
    try:
        built.build()
        yield built
    finally:
        built.remove()
