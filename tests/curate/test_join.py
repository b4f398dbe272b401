"""Scores of one's own become columns that filters and policies can use."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.filter import filter as filter_
from curate.ingest import ingest
from curate.join import join
from curate.reuse import recorded
from manifests.errors import UserError

PATTERNS = {"lq": "hazy/{id}_*.jpg", "gt": "clear/{id}.png", "task": "dehaze"}


@pytest.fixture
def manifest(hazy, tmp_path):
    return ingest(str(hazy), str(tmp_path / "m"), score=["contrast"], **PATTERNS)


def rows_of(done):
    return done.table().to_pylist()


def store(path, rows):
    if path.suffix == ".csv":
        names = list(rows[0])
        lines = [names, *([row[name] for name in names] for row in rows)]
        path.write_text("\n".join(",".join("" if cell is None else str(cell) for cell in line) for line in lines))
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    return str(path)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("key", ["pair_id", "sha256"])
def test_scores_become_columns(manifest, tmp_path, suffix, key, caplog):
    rows = rows_of(manifest)
    keys = list(dict.fromkeys(row["pair_id" if key == "pair_id" else "gt_sha256"] for row in rows))
    table = [{key: one, "My score": n, "user.b": n / 2 if n else None} for n, one in enumerate(keys[:-1])]
    table.append({key: "0" * 32, "My score": 1, "user.b": 1.0})
    done = join(manifest.path, str(tmp_path / "j"), scores=store(tmp_path / f"s{suffix}", table))
    assert done.rows == manifest.rows
    for row, before in zip(rows_of(done), rows, strict=True):
        number = keys.index(row["pair_id" if key == "pair_id" else "gt_sha256"])
        known = number < len(keys) - 1
        assert row["user.my_score"] == (number if known else None)
        assert row["user.b"] == (number / 2 if known and number else None)
        assert {name: row[name] for name in before} == before
    assert f"1 keys are of no row: {'0' * 32}" in caplog.text


def test_filters_and_policies_use_them(manifest, tmp_path):
    table = [{"pair_id": row["pair_id"], "beauty": n} for n, row in enumerate(rows_of(manifest))]
    done = join(manifest.path, str(tmp_path / "j"), scores=store(tmp_path / "s.csv", table))
    kept = filter_(done.path, str(tmp_path / "f"), minimum={"user.beauty": 4})
    assert kept.rows["kept"] == len(table) - 4
    (tmp_path / "p.yaml").write_text("keep:\n  nice: user.beauty >= 4\n")
    assert filter_(done.path, str(tmp_path / "p"), policy=str(tmp_path / "p.yaml")).rows == kept.rows


def test_ingest_joins_from_the_same_run(manifest, hazy, tmp_path):
    table = [{"sha256": row["gt_sha256"], "user.x": 1.5} for row in rows_of(manifest)[:1]]
    path = store(tmp_path / "s.csv", table)
    fused = ingest(str(hazy), str(tmp_path / "f"), score=["contrast"], join_scores=path, **PATTERNS)
    assert fused.table().equals(join(manifest.path, str(tmp_path / "j"), scores=path).table())


def test_a_joined_metric_is_not_taken_for_a_measured_one(manifest, tmp_path):
    rows = rows_of(manifest)
    table = [{"pair_id": rows[0]["pair_id"], "iqa.contrast": 99}]
    done = join(manifest.path, str(tmp_path / "j"), scores=store(tmp_path / "s.csv", table))
    assert [row["iqa.contrast"] for row in rows_of(done)] == [99, *(row["iqa.contrast"] for row in rows[1:])]
    assert "contrast" in recorded(manifest) and "contrast" not in recorded(done)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("s.csv", "pair_id,x\nK,1\nK,2\n", "s.csv, line 3: pair_id .* stands in line 2 as well"),
        ("s.csv", "pair_id,x\nK,good\n", "line 2: x is 'good', not a number"),
        ("s.csv", "pair_id,x\nK,inf\n", "line 2: x is infinite"),
        ("s.csv", "pair_id,x\nK\n", "line 2: has 1 cells where the header has 2"),
        ("s.csv", "pair_id,x\n,1\n", "line 2: has no pair_id"),
        ("s.csv", "name,x\na,1\n", "neither a column pair_id nor one sha256"),
        ("s.csv", "pair_id\nK\n", "no column beside pair_id"),
        ("s.csv", "pair_id,x,X\nK,1,2\n", "two columns would be user.x"),
        ("s.csv", "pair_id,x,\nK,1,2\n", "a column without a name"),
        ("s.csv", "pair_id,x\n", "has no rows"),
        ("s.csv", "", "has no rows"),
        ("s.csv", "pair_id,x\nabc,1\nabd,1\n", "none of its 2 keys is the pair_id of a row .first: 'abc'"),
        ("s.jsonl", "[1]\n", "s.jsonl, line 1: not a JSON object"),
        ("s.jsonl", '{"pair_id": 3, "x": 1}\n', "line 1: has no pair_id"),
        ("s.parquet", "no", "not readable as Parquet"),
        ("s.xlsx", "no", "read from .csv, .jsonl or .parquet"),
    ],
)
def test_what_cannot_be_used_is_one_line(manifest, tmp_path, name, text, message):
    (tmp_path / name).write_text(text.replace("K", rows_of(manifest)[0]["pair_id"]))
    with pytest.raises(UserError, match=message):
        join(manifest.path, str(tmp_path / "j"), scores=str(tmp_path / name))
    assert not (tmp_path / "j").exists()


def test_the_command_and_its_default_output(command, manifest, tmp_path):
    path = store(tmp_path / "s.csv", [{"pair_id": rows_of(manifest)[0]["pair_id"], "x": 3}])
    code, out, err = command("curate", "join", manifest.path, "--scores", path)
    assert (code, out.splitlines()[-1]) == (0, f"{manifest.path}-join"), err
    code, _, err = command("curate", "join", manifest.path, "--scores", tmp_path / "none.csv", "-o", tmp_path / "k")
    assert code == 1 and "none.csv: No such file" in err and "Traceback" not in err
