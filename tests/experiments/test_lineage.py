"""The data of the models that a version started from are read from its card, or by tags of older runs."""

import json

import pytest

from deepfm.artifact.artifact import load_artifact
from deepfm.artifact.checksums import write_checksums
from deepfm.artifact.training_data import TrainingData
from deepfm.experiments.lineage import load_started_from, read_lineage, save_started_from
from deepfm.registry.seen_rows import ModelLineage

FIRST = TrainingData(model="models:/first/1", url="file:///log", days={"train": ("2026-01-01",) * 2})


@pytest.fixture
def add_version(save_model, store, small_vocabulary, request):
    """Register a model, as an earlier version did if it is `old`, -> (version, card)."""

    def add(name, started_from_tag=None, *, old=True, **changes):
        folder = save_model(name, **changes)
        if old:
            card = json.loads((folder / "model.json").read_text())
            del card["started_from"]
            (folder / "model.json").write_text(json.dumps(card))
            write_checksums(f"file://{folder}")
        registered = f"{request.node.name}-{name}"
        with store.run(registered) as run:
            if started_from_tag:
                run.set_tag("started_from", started_from_tag)
            run.register(str(folder), registered, small_vocabulary, {})
        return store.resolve(f"models:/{registered}/1"), load_artifact(f"file://{folder}").card

    return add


def test_the_card_says_what_a_model_started_from(add_version, store):
    version, card = add_version("new", old=False, started_from=(FIRST,))
    lineage = read_lineage(store, version, card)
    assert [data.model for data in lineage.data] == [f"models:/{version.name}/1", "models:/first/1"]


def test_the_starts_of_older_models_are_followed_by_the_tags_of_their_runs(add_version, store):
    first, _ = add_version("first")
    second, _ = add_version("second", f"models:/{first.name}/1")
    third, card = add_version("third", f"models:/{second.name}/1")
    lineage = read_lineage(store, third, card)
    names = [version.name for version in (third, second, first)]
    assert [data.model for data in lineage.data] == [f"models:/{name}/1" for name in names]
    assert lineage.unknown == ""


def test_an_older_model_without_a_tag_started_from_no_other(add_version, store):
    version, card = add_version("plain")
    assert len(read_lineage(store, version, card).data) == 1


def test_a_start_that_was_deleted_is_unknown(add_version, store):
    version, card = add_version("second", "models:/deleted/7")
    lineage = read_lineage(store, version, card, "the champion")
    assert lineage.unknown.startswith("version 1, the champion, started from models:/deleted/7, which cannot")


def test_what_a_training_starts_from_is_kept_in_its_run_folder(tmp_path):
    url = f"file://{tmp_path}/started_from.json"
    save_started_from(url, ModelLineage("1", (FIRST,)))
    assert load_started_from(url) == (FIRST,)


def test_an_incomplete_record_is_not_written(tmp_path):
    url = f"file://{tmp_path}/started_from.json"
    save_started_from(url, ModelLineage("1", (FIRST,), unknown_start="models:/deleted/7"))
    assert load_started_from(url) is None
