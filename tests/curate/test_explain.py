"""`explain` and `diff`: what a person is told about a pair, and about two manifests."""

import json
from collections import Counter

import pyarrow as pa
import pytest

from curate.decontaminate import decontaminate
from curate.dedup import dedup
from curate.diff import diff, text
from curate.explain import explain
from curate.filter import filter as filter_
from curate.ingest import ingest
from curate.merge import merge
from manifests import schema, table
from manifests.errors import UserError


def rows(manifest):
    return table.read(str(manifest)).table().to_pylist()


@pytest.fixture
def pairs(hazy, tmp_path):
    """Hazy pairs with contrast measured."""
    options = {"lq": "hazy/{id}_*.jpg", "gt": "clear/{id}.png", "task": "dehaze", "score": ["contrast"]}
    return ingest(str(hazy), str(tmp_path / "m"), **options).path


@pytest.fixture
def strict(pairs, tmp_path):
    """The pairs without those of the two GTs with least contrast."""
    values = sorted({row["iqa.contrast"] for row in rows(pairs)})
    return filter_(pairs, str(tmp_path / "strict"), minimum={"contrast": values[2]}).path


def test_everything_about_a_pair(command, strict, pairs, tmp_path):
    dropped = next(row for row in rows(strict) if row["status"] == "dropped")
    prefix = next(
        dropped["pair_id"][:n]
        for n in range(1, 33)
        if sum(row["pair_id"].startswith(dropped["pair_id"][:n]) for row in rows(strict)) == 1
    )
    found = explain(prefix.upper(), strict)
    assert (found.pair_id, found.status) == (dropped["pair_id"], "dropped")
    assert found.decisions == dropped["decisions"]
    assert found.scores == {"iqa.contrast": dropped["iqa.contrast"]}
    assert found.facts["task"] == "dehaze"
    assert None not in found.facts.values()
    with open(found.files["gt"], "rb") as file:
        assert file.read(4) == b"\x89PNG"
    assert [stage["stage"] for stage in found.stages] == ["ingest", "filter"]
    code, out, err = command("curate", "explain", prefix, strict)
    assert code == 0, err
    for shown in (dropped["pair_id"], "drop by filter/min:contrast", "is below", "iqa.contrast", "gt_sha256", "ingest"):
        assert shown in out
    kept = next(row["pair_id"] for row in rows(strict) if row["status"] == "kept")
    assert "no stage that ran decided anything against it" in command("curate", "explain", kept, strict)[1]


def test_the_other_pairs_of_a_cluster_are_named(pairs, hazy, tmp_path):
    again = ingest(
        str(hazy), str(tmp_path / "again"), dataset="again", lq="hazy/{id}_*.jpg", gt="clear/{id}.png", task="dehaze"
    )
    done = dedup(merge([pairs, again.path], str(tmp_path / "both")).path, str(tmp_path / "d")).path
    dropped = next(row for row in rows(done) if row["status"] == "dropped")
    found = explain(dropped["pair_id"], done)
    assert found.cluster == {dropped["cluster"]: "kept"}
    assert explain(dropped["cluster"], done).cluster == {dropped["pair_id"]: "dropped"}


def test_none_or_several_pairs_are_clear_errors(command, tmp_path, monkeypatch):
    ids = ["ab" + "0" * 30, "ab" + "1" * 30, "cd" + "0" * 30]
    made = [{"pair_id": one, "dataset": "d", "task": "t", "gt_path": f"{one}.png"} for one in ids]
    whole = schema.conform(pa.Table.from_pylist(made))
    path = str(tmp_path / "manifest")
    table.write(path, whole, roots={"d": str(tmp_path)}, stages=[{"stage": "made"}], part_rows=1)
    assert explain("c", path).pair_id == ids[2]
    assert explain("ab1", path).facts["gt_path"] == f"{ids[1]}.png"
    with pytest.raises(UserError, match=f"2 pair_ids begin with 'ab': {ids[0]}, {ids[1]}; give more digits"):
        explain("ab", path)
    with pytest.raises(UserError, match=r"no pair_id begins with 'ffff' \(of 3 rows\)"):
        explain("ffff", path)
    with pytest.raises(UserError, match="name a pair"):
        explain(" ", path)
    monkeypatch.chdir(tmp_path)
    code, _, err = command("curate", "explain", "ab")
    assert (code, err.count("\n")) == (1, 1)
    assert command("curate", "explain", "cd")[0] == 0


def test_a_manifest_does_not_differ_from_itself_in_any_order(pairs, tmp_path):
    source = table.read(pairs)
    whole = source.table()
    mixed = whole.take(list(range(whole.num_rows))[::-1])
    other = table.write(str(tmp_path / "other"), mixed, roots=source.roots, stages=source.stages)
    for one in (pairs, other.path):
        found = diff(pairs, one)
        assert found.is_empty
        assert found.rows == {"both": 12, "added": 0, "removed": 0}
        assert "the two hold the same" in text(found)


def test_statuses_by_reason(pairs, strict, benchmark_manifest, tmp_path):
    found = diff(pairs, strict)
    (change,) = found.changes
    assert (change.before, change.after, change.rows) == ("kept", "dropped", 4)
    assert change.reasons == ("+ drop by filter/min:contrast",)
    assert set(change.examples) <= {row["pair_id"] for row in rows(strict) if row["status"] == "dropped"}
    assert (found.columns_added, found.columns_changed, found.stages_b) == ((), {}, ("filter",))
    (back,) = diff(strict, pairs).changes
    assert (back.before, back.after, back.reasons) == ("dropped", "kept", ("- drop by filter/min:contrast",))
    # what stays dropped, but for another reason, is a change as well
    other = decontaminate(pairs, str(tmp_path / "other"), against=benchmark_manifest).path
    tally = Counter((one.before, one.after) for one in diff(strict, other).changes for _ in range(one.rows))
    expected = Counter(
        (a["status"], b["status"])
        for a, b in zip(rows(strict), rows(other), strict=True)
        if a["decisions"] != b["decisions"]
    )
    assert tally == expected


@pytest.fixture
def benchmark_manifest(hazy, tmp_path):
    return ingest(str(hazy), str(tmp_path / "test"), gt="clear/0.png", task="clean", dataset="test").path


def test_rows_and_columns(pairs, hazy, command, tmp_path):
    source = table.read(pairs)
    whole = source.table().slice(1)
    values = whole.column("iqa.contrast").to_pylist()
    whole = schema.set_column(whole, "iqa.contrast", [None, values[1] + 1, *values[2:]], pa.float64())
    whole = schema.set_column(whole, "caption", ["a photograph"] * 11, pa.string())
    whole = schema.set_column(whole, "license", ["cc0"] * 3 + [None] * 8, pa.string())
    new = {"pair_id": "f" * 32, "task": "derain", "dataset": "data", "gt_path": "n.png"}
    whole = pa.concat_tables([whole, schema.conform(pa.Table.from_pylist([new]))], promote_options="default")
    other = table.write(str(tmp_path / "o"), whole, roots=source.roots, stages=[{"stage": "made"}]).path
    found = diff(pairs, other)
    assert found.rows == {"both": 11, "added": 1, "removed": 1}
    assert (found.added, found.removed) == ({"derain": 1}, {"dehaze": 1})
    assert found.examples_added == ("f" * 32,)
    assert found.columns_added == ("caption",)
    assert found.columns_changed == {"iqa.contrast": 2, "license": 3}
    assert diff(other, pairs).columns_removed == ("caption",)
    assert (found.stages_a, found.stages_b) == (("ingest",), ("made",))
    code, out, _ = command("curate", "diff", pairs, other, "--json")
    assert code == 0
    told = json.loads(out)
    assert told["columns_changed"] == found.columns_changed
    assert told["rows"] == found.rows
    code, out, _ = command("curate", "diff", pairs, other)
    for shown in ("11 rows in both, 1 added, 1 removed", "+ 1 derain", "column + caption", "license: 3 values changed"):
        assert shown in out
    code, _, err = command("curate", "diff", pairs, tmp_path / "none")
    assert (code, err.count("\n")) == (1, 1)


@pytest.mark.parametrize("name", ["dedup", "decontaminate", "explain", "diff"])
def test_the_help_has_an_example(command, name):
    code, out, _ = command("curate", name, "--help")
    assert code == 0
    assert f"Example: curate {name}" in out
