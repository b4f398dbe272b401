"""Which manifest is read when none is named: told from the lineage alone."""

import pyarrow as pa
import pytest

from manifests import table
from manifests.errors import UserError
from manifests.newest import newest


@pytest.fixture
def make(tmp_path):
    """make(name, stage, *inputs): a manifest in tmp_path that `stage` made of the others."""

    def write(name, stage, *inputs):
        sources = [table.read(str(tmp_path / one)) for one in inputs]
        rows = pa.table({"pair_id": [f"{len(name):032x}"], "dataset": ["d"], "task": ["t"]})
        before = [one for source in sources for one in source.stages]
        stages = [*before, table.stage_entry(stage, 1, {"name": name}, sources)]
        return table.write(str(tmp_path / name), rows, roots={"d": str(tmp_path)}, stages=stages).path

    return write


def test_the_end_of_the_chain_is_read(make, tmp_path):
    assert newest(str(tmp_path)) == "manifest"
    make("manifest", "ingest")
    assert newest(str(tmp_path), "filter") == "manifest"
    make("manifest-filter", "filter", "manifest")
    make("manifest-a", "caption", "manifest-filter")
    assert newest(str(tmp_path), "split") == "manifest-a"
    make("manifest-split", "split", "manifest-a")
    make("manifest-shard", "shard", "manifest-split")
    assert newest(str(tmp_path)) == newest(str(tmp_path), "caption2") == "manifest-shard"
    assert newest(str(tmp_path), "split") == "manifest-a"  # run again, it reads what it read before
    assert newest(str(tmp_path), "filter") == "manifest"


def test_what_is_unfinished_or_of_another_chain_does_not_count(make, tmp_path):
    make("manifest", "ingest")
    (tmp_path / "manifest-filter" / ".work").mkdir(parents=True)
    make("manifest-other", "ingest")
    (tmp_path / "manifest-report.html").write_text("")
    assert newest(str(tmp_path)) == "manifest"


def test_two_ends_are_refused_by_name(make, tmp_path):
    make("manifest", "ingest")
    make("manifest-loose", "filter", "manifest")
    make("manifest-strict", "filter", "manifest")
    with pytest.raises(UserError, match="manifest-loose, manifest-strict; name the one to read"):
        newest(str(tmp_path), "split")
    make("manifest-split", "split", "manifest-loose")
    with pytest.raises(UserError, match="manifest-split, manifest-strict"):
        newest(str(tmp_path), "shard")
