"""`make audit`: compare the advisories of the pinned packages with .ci/accepted_advisories.toml.

It needs the network. pip-audit also succeeds if its database does not know a package or cannot be reached;
here this is a failure, because these packages were not checked.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
ACCEPTED = ROOT / ".ci" / "accepted_advisories.toml"


def main() -> None:
    command = [sys.executable, "-m", "pip_audit", "-r", "requirements.lock", "--no-deps", "--disable-pip"]
    command += ["--format", "json", "--progress-spinner", "off"]
    # Exit status 1: there are advisories, or an error without output.
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode not in (0, 1) or not done.stdout.strip():
        sys.exit(f"audit: pip-audit ended with exit status {done.returncode}; check the network")
    report, accepted = json.loads(done.stdout), read_accepted(ACCEPTED)
    for line in unused(report, accepted):
        print(f"audit: {line}", file=sys.stderr)
    if problems := find_problems(report, accepted):
        sys.exit("\n".join(f"audit: {problem}" for problem in problems))
    print(f"audit: {len(report['dependencies'])} packages, {len(accepted)} accepted advisories, no other")


def read_accepted(path: Path) -> list[dict]:
    return tomllib.loads(path.read_text(encoding="utf-8"))["accepted"]


def find_problems(report: dict, accepted: list[dict]) -> list[str]:
    """Return a line for each advisory that is not accepted, and one for packages that were not audited."""
    problems = []
    for package in report["dependencies"]:
        for found in package.get("vulns", ()):
            if not names(found) & {a["advisory"] for a in accepted if a["package"] == package["name"]}:
                fixed = ", ".join(found["fix_versions"]) or "no version"
                also = ", ".join(sorted(names(found) - {found["id"]}))
                problems.append(
                    f"{package['name']} {package['version']}: {found['id']} ({also}), fixed in {fixed}; "
                    "upgrade the pin, or add it to .ci/accepted_advisories.toml with reason and test"
                )
    skipped = [package["name"] for package in report["dependencies"] if "skip_reason" in package]
    if skipped:
        some = ", ".join(skipped[:3]) + (", …" if len(skipped) > 3 else "")
        problems.append(f"{len(skipped)} packages were not audited: {some}; check the network and the pins")
    return problems


def unused(report: dict, accepted: list[dict]) -> list[str]:
    """Return a line for each accepted advisory that the audit of its package did not report."""
    audited = {package["name"] for package in report["dependencies"] if "skip_reason" not in package}
    reported = {
        (package["name"], name)
        for package in report["dependencies"]
        for found in package.get("vulns", ())
        for name in names(found)
    }
    return [
        f"{entry['package']}: {entry['advisory']} was not reported; remove it if it is fixed"
        for entry in accepted
        if entry["package"] in audited and (entry["package"], entry["advisory"]) not in reported
    ]


def names(found: dict) -> set[str]:
    return {found["id"], *found.get("aliases", ())}


if __name__ == "__main__":
    main()
