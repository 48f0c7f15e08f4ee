"""The documentation site: its navigation, its generated pages, and links between pages."""

import importlib
import re
import runpy
from pathlib import Path

import pytest
import yaml

from deepfm.settings.data import DataSettings
from deepfm.settings.field_groups import FieldGroup
from deepfm.settings.loader import Settings, load_settings
from deepfm.settings.model import ModelSettings

ROOT = Path(__file__).resolve().parents[2]
GENERATED = {"reference/jobs.md", "reference/settings.md"}
#: Modules with the settings of YAML files; other settings are those of files that the jobs write.
YAML_MODULES = ("deepfm.settings.", "deepfm.experiments.tune.space")


class SiteLoader(yaml.SafeLoader):
    """Reads mkdocs.yml: a name of a Python function is a text."""


SiteLoader.add_multi_constructor("tag:yaml.org,2002:python/name:", lambda loader, suffix, node: suffix)


@pytest.fixture(scope="module")
def site():
    return yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), SiteLoader)


@pytest.fixture
def script(monkeypatch):
    """script(name) -> module of .ci/docs."""
    monkeypatch.syspath_prepend(str(ROOT / ".ci" / "docs"))
    return importlib.import_module


def pages_in(nav) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    children = nav.values() if isinstance(nav, dict) else nav
    return [page for child in children for page in pages_in(child)]


def kept_elsewhere() -> dict[str, str]:
    """Page -> file of the repository, from the hooks, which import MkDocs."""
    text = (ROOT / ".ci/docs/hooks.py").read_text(encoding="utf-8")
    return dict(re.findall(r'^    "([^"]+\.md)": "([^"]+\.md)",$', text, re.MULTILINE))


def test_the_navigation_lists_every_page_once(site):
    in_docs = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")]
    assert sorted(pages_in(site["nav"])) == sorted([*in_docs, *kept_elsewhere()])


def test_pages_that_are_kept_elsewhere_exist():
    sources = kept_elsewhere()
    assert sources.keys() > GENERATED
    assert [
        path for page, path in sources.items() if page not in GENERATED and not (ROOT / path).exists()
    ] == []


def test_links_between_files_of_the_repository_lead_to_files():
    links = [
        (page, target)
        for page in [*pages(), ROOT / "conf/profile/SECURITY.md"]
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
        if "://" not in target
    ]
    assert len(links) > 30
    assert [(page.name, target) for page, target in links if not (page.parent / target).exists()] == []


def rows_of(page: str, title: str) -> list[list[str]]:
    """Rows of the first table below a heading, as cells."""
    (text,) = re.findall(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", page, re.MULTILINE | re.DOTALL)
    return [re.split(r"(?<!\\) \| ", line.strip("| ")) for line in re.findall(r"^\| `.*", text, re.MULTILINE)]


def pages() -> list[Path]:
    return [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")]


def commands_in(page: Path) -> list[tuple[str, set[str]]]:
    """(job, flags) of each command in the shell blocks of a page."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^ *```sh\n(.*?)```", text, re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    matches = [re.search(r"\bjobs/([a-z_]+)\.py(.*)", line.partition(" #")[0]) for line in lines]
    return [(match[1], set(re.findall(r"(?<=\s)--[a-z-]+", match[2]))) for match in matches if match]


def test_commands_in_the_documentation_use_known_flags(script):
    module = script("jobs_reference")
    commands = [(page.name, *command) for page in pages() for command in commands_in(page)]
    assert len(commands) > 10
    for page, job, flags in commands:
        known = {opt for one in module.command(f"deepfm.cli.{job}", job).params for opt in one.opts}
        assert flags <= known, (page, job)


def parse_yaml(text: str, folder: Path) -> DataSettings | ModelSettings:
    path = folder / "settings.yaml"
    path.write_text(text, encoding="utf-8")
    return load_settings(path, DataSettings if "format:" in text else ModelSettings)


def test_the_files_of_the_tutorial_fit_together(tmp_path, monkeypatch):
    text = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    data, model = (parse_yaml(block, tmp_path) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL))
    script = tmp_path / "write_log.py"
    script.write_text(code.replace("range(5000)", "range(50)"))
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(script))
    assert len(list(tmp_path.glob("work/tutorial/log/ds=*/clicks.csv"))) == 8
    header, *rows = (tmp_path / "work/tutorial/log/ds=2026-01-08/clicks.csv").read_text().splitlines()
    assert len(rows) == 50
    assert {data.label, *data.field_set.names} <= set(header.split(","))
    assert model.model == "deepfm"


def subclasses(settings_class: type) -> set[type]:
    direct = settings_class.__subclasses__()
    return {*direct, *(below for one in direct for below in subclasses(one))}


def test_the_reference_has_every_key_of_every_yaml(script):
    module = script("settings_reference")
    page = module.settings_page()
    for path in (ROOT / "deepfm/settings").glob("[a-z]*.py"):
        importlib.import_module(f"deepfm.settings.{path.stem}")
    titles = {settings_class: title for title, _, settings_class in module.FILES}
    classes = {one for one in subclasses(Settings) if one.__module__.startswith(YAML_MODULES)}
    assert len(classes) >= 15
    for one in classes | {FieldGroup}:
        rows = rows_of(page, titles.get(one, one.__name__))
        assert [cells[0].strip("`") for cells in rows] == list(one.model_fields), one


def test_a_key_has_the_type_default_and_comment_of_its_setting(script):
    page = script("settings_reference").settings_page()
    rows = {cells[0]: cells[1:] for cells in rows_of(page, "TrainingSettings")}
    assert rows["`batch_size`"] == ["integer ≥ 1", "required", "impressions per worker and step"]
    assert rows["`monitor`"][:2] == ["`logloss`, `auc`", "`logloss`"]
    assert rows["`ftrl`"][0] == "[FtrlSettings](#ftrlsettings)"


EXAMPLE = """
class Example:
    # Above, in
    # two lines.
    first: int = 1
    second: int = 2
    third: int = 3  # of its own

    fourth: int = (
        4  # in the middle
    )
"""


def test_a_comment_above_covers_the_fields_directly_below(script, tmp_path, monkeypatch):
    (tmp_path / "example_settings.py").write_text(EXAMPLE)
    monkeypatch.syspath_prepend(str(tmp_path))
    comments = script("comments").field_comments(script("example_settings").Example)
    assert comments["first"].text == "Above, in two lines."
    assert comments["second"] == ("", "first")
    assert comments["third"].text == "of its own"
    assert comments["fourth"] == ("", None)


def test_the_reference_has_every_job_and_flag(script):
    module = script("jobs_reference")
    page = module.jobs_page()
    jobs = {path.stem for path in (ROOT / "jobs").glob("*.py")} - {"environment"}
    assert set(module.JOBS) == jobs
    for name in jobs:
        flags = {row[0] for row in rows_of(page, f"jobs/{name}.py")}
        command = module.command(f"deepfm.cli.{name}", name)
        assert all(any(opt in flag for flag in flags) for one in command.params for opt in one.opts), name
