"""Small datasets made by hand: Parquet files and a manifest, without Spark."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deepfm.config import parse_settings
from deepfm.data_settings import DataSettings
from deepfm.dataset.manifest import DataFile, InputLog, Manifest, SplitPart, write_manifest

DATA = parse_settings(
    {
        "format": "delimited",
        "columns": ["label", "I", "C"],
        "fields": [{"kind": "count", "names": ["I"]}, {"kind": "category", "names": ["C"]}],
    },
    DataSettings,
    "test",
)


@pytest.fixture
def write_dataset(tmp_path):
    """Write files, each a list of (label, I, C) rows, as training split; validation and test have a row each.

    The files have row groups of `row_group_rows` rows. Returns (url, manifest).
    """

    def write(files, row_group_rows=100, url=f"file://{tmp_path}/dataset"):
        splits = {
            name: _write_split(tmp_path / "dataset" / name, part, row_group_rows)
            for name, part in (("train", files), ("valid", [[(1, 2, 3)]]), ("test", [[(0, 0, 1)]]))
        }
        manifest = Manifest(
            created_at="2026-01-08T00:00:00+00:00",
            data=DATA,
            num_ids=(2**31, 2**31),
            vocabulary="0123456789abcdef",
            splits=splits,
            input=InputLog(url="file:///log", days={}, rows_read=0, bad_by_reason={}),
        )
        write_manifest(url, manifest)
        return url, manifest

    return write


def _write_split(folder, files, row_group_rows):
    folder.mkdir(parents=True)
    described = []
    for at, rows in enumerate(files):
        labels, *ids = zip(*rows, strict=True)
        columns = {"label": pa.array(labels, pa.int8())}
        columns |= {name: pa.array(column, pa.int32()) for name, column in zip("IC", ids, strict=True)}
        path = folder / f"part-{at:05}.parquet"
        pq.write_table(pa.table(columns), path, row_group_size=row_group_rows)
        groups = tuple(
            len(rows[start : start + row_group_rows]) for start in range(0, len(rows), row_group_rows)
        )
        described.append(DataFile(name=path.name, num_bytes=path.stat().st_size, row_groups=groups))
    num_rows = sum(map(len, files))
    clicks = sum(row[0] for rows in files for row in rows)
    return SplitPart(
        num_rows=num_rows,
        num_clicks=clicks,
        days={"": num_rows},
        files=tuple(described),
        digest=f"{num_rows:016x}",
    )
