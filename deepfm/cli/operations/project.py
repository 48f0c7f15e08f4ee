"""Files of a new project: settings, schedule, entry points and a README with the commands of the pipeline."""

import shlex
import sys
from pathlib import Path

from deepfm import storage
from deepfm.click_log.describe.yaml_text import Description, describe_log
from deepfm.settings.conf_files import conf_folder

#: Folder that the schedule files of conf/ name as the project's.
_EXAMPLE_HOME = "/opt/ctr"
_JOBS = ("build_features", "train", "compare", "tune", "promote", "score", "evaluate")
_ENTRY_POINT = '''"""{title}: `spark-submit jobs/{job}.py --help`; the same as `deepfm {command}`."""

from deepfm.cli.{job} import {job}

if __name__ == "__main__":
    {job}()
'''
_README = """# Click-through-rate model

Written by `deepfm init`. Review `conf/data/mine.yaml` first, then run these commands in this folder. With
`--dry-run`, `build-features`, `train`, `promote` and `score` check all inputs and change nothing.

```sh
deepfm build-features --data conf/data/mine.yaml --input {log} --output work/dataset{split}
deepfm train --dataset work/dataset --model conf/model/deepfm.yaml --num-workers 2 --name {name}
deepfm promote --name {name}
deepfm score --date {day} --model-uri models:/{name}@champion --input {log} --output work/scores
deepfm evaluate --date {day} --scores work/scores --labels {log} --key impression_id
```
{note}
To evaluate a day, give `score` the flags `--keep` and `--key` with a column that identifies an impression,
here `impression_id`; the label log has the same column.

| file | content |
|---|---|
| `conf/data/mine.yaml` | columns of the log |
| `conf/model/deepfm.yaml` | model and training |
| `conf/profile/local.yaml` | Spark, MLflow and limits; its relative paths start from this folder |
| `conf/schedule/` | the daily and weekly jobs for cron and Airflow; adapt paths and names |
| `jobs/` | the commands as files, for spark-submit |
| `work/` | dataset, runs, models and scores |
"""


def project_files(folder: Path, log_url: str | None, label: str | None) -> dict[str, str]:
    """{path: content} of a project at an absolute folder; raise UserError if the log cannot be described."""
    description = describe_log(log_url, label) if log_url else None
    conf = conf_folder()
    data = description.yaml if description else _read(conf / "data/example.yaml")
    log = (storage.local_path(log_url) or log_url) if log_url else "LOG"
    files = {
        "README.md": _readme(folder.name, log, description),
        "conf/data/mine.yaml": data,
        "conf/model/deepfm.yaml": _read(conf / "model/deepfm.yaml"),
        "conf/profile/local.yaml": _read(conf / "profile/local.yaml"),
    }
    for name in ("crontab", "airflow_dag.py"):
        files[f"conf/schedule/{name}"] = _schedule(_read(conf / "schedule" / name), folder)
    for job in _JOBS:
        command = job.replace("_", "-")
        title = command.replace("-", " ").capitalize()
        files[f"jobs/{job}.py"] = _ENTRY_POINT.format(title=title, job=job, command=command)
    return files


def _readme(name: str, log: str, description: Description | None) -> str:
    model = "".join(letter if letter.isalnum() and letter.isascii() else "_" for letter in name) or "ctr"
    days = description.days if description else ()
    split, day, note = "", "2026-01-08", ""
    if len(days) > 3:
        day = days[-1]
        split = _split_flags(f"{days[0]}:{days[-4]}", days[-3], days[-2])
    elif description is None or description.has_days:
        split = _split_flags("2026-01-01:2026-01-05", "2026-01-06", "2026-01-07")
        note = "\nReplace the days by those of your log.\n"
    return _README.format(log=shlex.quote(log), split=split, day=day, name=model, note=note)


def _split_flags(train: str, valid: str, test: str) -> str:
    return f" \\\n    --train-days {train} --valid-days {valid} --test-days {test}"


def _schedule(text: str, folder: Path) -> str:
    """Replace the example's folders by the project's and by that of this Python."""
    environment = f"{_EXAMPLE_HOME}/.venv/bin"
    return text.replace(environment, str(Path(sys.executable).parent)).replace(_EXAMPLE_HOME, str(folder))


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")
