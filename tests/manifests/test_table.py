"""Manifests: what is written is what is read, by us and by others, and broken rows are refused."""

import json

import duckdb
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests import schema, table
from manifests.errors import UserError

STAGE = {"stage": "test", "version": 1, "params": {}, "inputs": []}


def rows(n=3, **columns):
    base = {
        "pair_id": [schema.pair_id("d", "deblur", "", f"lq/{i}.png", f"gt/{i}.png") for i in range(n)],
        "dataset": ["d"] * n,
        "task": ["deblur"] * n,
        "lq_path": [f"lq/{i}.png" for i in range(n)],
        "gt_path": [f"gt/{i}.png" for i in range(n)],
    }
    return pa.table(base | columns)


def write(path, data, **options):
    return table.write(str(path), data, roots={"d": str(path.parent)}, stages=[STAGE], **options)


def test_round_trip(tmp_path):
    done = write(tmp_path / "m", rows(**{"iqa.piqe": [1.0, None, 3.0]}), expected_rows=3)
    back = table.read(str(tmp_path / "m"))
    assert back.fingerprint == done.fingerprint
    assert back.table().column("iqa.piqe").to_pylist() == [1.0, None, 3.0]
    assert back.table().column_names[: len(schema.CORE)] == list(schema.CORE)
    assert back.rows == {"rows": 3, "kept": 3, "dropped": 0, "error": 0}


def test_same_table_gives_same_bytes(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / name, rows())
    for file in ("manifest.json", "part-00000.parquet"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_many_parts_keep_order(tmp_path):
    write(tmp_path / "m", rows(25), part_rows=10)
    back = table.read(str(tmp_path / "m"))
    assert [part["rows"] for part in back.info["parts"]] == [10, 10, 5]
    assert back.table().column("gt_path").to_pylist() == [f"gt/{i}.png" for i in range(25)]


def test_pandas_and_duckdb_read_it(tmp_path):
    decisions = [[schema.decision("filter", "min:x", "drop", "bad", value=1.0, threshold=2.0)], [], []]
    write(tmp_path / "m", rows(decisions=pa.array(decisions, schema.CORE["decisions"])))
    frame = pd.read_parquet(tmp_path / "m" / "part-00000.parquet")
    assert list(frame["status"]) == ["dropped", "kept", "kept"]
    found = duckdb.sql(f"select count(*) from '{tmp_path}/m/*.parquet' where status = 'dropped'").fetchall()
    assert found == [(1,)]


def test_no_absolute_path_in_manifest_json(tmp_path):
    write(tmp_path / "m", rows())
    text = (tmp_path / "m" / "manifest.json").read_text()
    assert str(tmp_path) not in text
    assert json.loads(text)["roots"] == {"d": ".."}


def test_a_tree_can_be_moved(tmp_path):
    (tmp_path / "x").mkdir()
    write(tmp_path / "x" / "m", rows())
    (tmp_path / "x").rename(tmp_path / "y")
    assert table.read(str(tmp_path / "y" / "m")).locate("d", "gt/0.png") == str(tmp_path / "y" / "gt" / "0.png")


def test_existing_output_is_refused_and_untouched(tmp_path):
    write(tmp_path / "m", rows())
    before = (tmp_path / "m" / "part-00000.parquet").read_bytes()
    with pytest.raises(UserError, match="exists already"):
        write(tmp_path / "m", rows(5))
    assert (tmp_path / "m" / "part-00000.parquet").read_bytes() == before


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"pair_id": ["a" * 32] * 3}, "stands in two rows"),
        ({"pair_id": ["a" * 32, None, "b" * 32]}, "has no pair_id"),
        ({"IQA": [1, 2, 3]}, "names of columns"),
        ({"dataset": ["d", "d", "other"]}, "has no root"),
    ],
)
def test_broken_rows_are_refused(tmp_path, columns, message):
    with pytest.raises(UserError, match=message):
        write(tmp_path / "m", rows(**columns))
    assert not (tmp_path / "m" / "manifest.json").exists()


def test_row_count_must_be_what_the_stage_declared(tmp_path):
    with pytest.raises(UserError, match="3 rows written where the stage declared 4"):
        write(tmp_path / "m", rows(), expected_rows=4)


def test_unfinished_folder_is_no_manifest(tmp_path):
    write(tmp_path / "m", rows())
    (tmp_path / "m" / "manifest.json").unlink()
    with pytest.raises(UserError, match="not a manifest"):
        table.read(str(tmp_path / "m"))
    with pytest.raises(UserError, match="no such manifest"):
        table.read(str(tmp_path / "none"))


def test_damaged_or_missing_part_is_one_line(tmp_path):
    write(tmp_path / "m", rows())
    part = tmp_path / "m" / "part-00000.parquet"
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(UserError, match="not readable as Parquet"):
        table.read(str(tmp_path / "m")).table()
    part.unlink()
    with pytest.raises(UserError, match="missing"):
        table.read(str(tmp_path / "m")).table()


def test_unknown_schema_version(tmp_path):
    write(tmp_path / "m", rows())
    path = tmp_path / "m" / "manifest.json"
    path.write_text(path.read_text().replace('"schema_version": 1', '"schema_version": 99'))
    with pytest.raises(UserError, match="schema version 99"):
        table.read(str(tmp_path / "m"))


def test_works_on_a_url(tmp_path):
    done = table.write("memory://bucket/m", rows(), roots={"d": "memory://bucket"}, stages=[STAGE])
    back = table.read("memory://bucket/m")
    assert back.table().equals(done.table())
    assert back.locate("d", "gt/0.png") == "memory://bucket/gt/0.png"


verdicts = st.lists(
    st.builds(
        lambda stage, rule, verdict: schema.decision(stage, rule, verdict, "why"),
        st.sampled_from(["ingest", "filter"]),
        st.sampled_from(["a", "b"]),
        st.sampled_from(["drop", "error"]),
    ),
    max_size=4,
)


@given(verdicts)
def test_status_follows_from_decisions(decisions):
    kinds = {d["verdict"] for d in decisions}
    assert schema.status_of(decisions) == ("error" if "error" in kinds else "dropped" if kinds else "kept")


@given(verdicts, verdicts)
def test_newest_verdict_of_a_rule_replaces_its_predecessor(old, new):
    new = [d for d in new if d["stage"] == "filter"]
    result = schema.decide(old, "filter", ["a", "b"], new)
    assert [d for d in result if d["stage"] == "filter"] == new
    assert [d for d in result if d["stage"] != "filter"] == [d for d in old if d["stage"] != "filter"]


def test_identity_is_of_names_not_content():
    one = schema.pair_id("d", "deblur", "", "a", "b")
    assert len(one) == 32
    assert one != schema.pair_id("d", "deblur", "", "ab", "")
    assert one == schema.pair_id("d", "deblur", "", "a", "b")


def test_parts_of_a_killed_run_are_forgotten(tmp_path):
    write(tmp_path / "m", rows(30), part_rows=10)
    (tmp_path / "m" / "manifest.json").unlink()
    write(tmp_path / "m", rows(5))
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == ["manifest.json", "part-00000.parquet"]


def test_a_stream_of_tables_must_have_the_same_columns(tmp_path):
    with pytest.raises(UserError, match=r"column 'iqa\.piqe' is in some parts only"):
        write(tmp_path / "m", iter([rows(3), rows(3, **{"iqa.piqe": [1.0, 2.0, 3.0]})]))
    assert not (tmp_path / "m" / "manifest.json").exists()
