"""`curate doctor` names what is wrong with data of which it is known, and nothing in data that is right."""

import json

import numpy as np
import pyarrow as pa
import pytest

from curate.doctor import diagnose
from curate.ingest import ingest
from curate.shard import shard
from curate.show import show
from curate.split import split
from manifests import schema, table
from manifests.errors import UserError

STAGE = {"stage": "test", "version": 1, "params": {}, "inputs": []}


def manifest(path, rows, **kinds):
    """A manifest of rows given as dicts, each a pair of its own photograph where nothing else is said."""
    rng = np.random.default_rng(0)
    looks = rng.integers(0, 2**63, len(rows), dtype=np.uint64)
    whole = []
    for i, row in enumerate(rows):
        base = {
            "pair_id": f"{i:032x}", "dataset": "d", "task": "dehaze", "subtask": "", "group": f"d/gt/{i}.png",
            "lq_path": f"lq/{i}.png", "gt_path": f"gt/{i}.png", "gt_sha256": f"{i:064x}"[::-1],
            "lq.sha256": f"{i + 10_000:064x}"[::-1], "phash": f"{int(looks[i]):016x}", "license": "CC0",
            "lq.phash": f"{int(looks[i]):016x}",
            "width": 64, "height": 64, "lq.width": 64, "lq.height": 64, "scale": 1, "decisions": [],
        }  # fmt: skip
        whole.append(base | row)
    types = {**schema.CORE, **{name.replace("__", "."): kind for name, kind in kinds.items()}}
    names = dict.fromkeys(name for row in whole for name in row)
    columns = {name: pa.array([row.get(name) for row in whole], types[name]) for name in names}
    table.write(str(path), pa.table(columns), roots={"d": str(path.parent)}, stages=[STAGE])
    return str(path)


def found(path, **options):
    return {finding.kind: finding for finding in diagnose(path, **options)}


def test_pairs_that_are_right_give_one_hint_only(tmp_path):
    path = manifest(tmp_path / "m", [{"pair.state": "ok"}] * 120, pair__state=pa.string())
    assert diagnose(path) == []
    only = manifest(tmp_path / "n", [{}] * 120)
    (finding,) = diagnose(only)
    assert (finding.kind, finding.count) == ("pairs_unmeasured", 120)
    assert finding.command == f"curate pairs {only} -o {only}-pairs"


@pytest.mark.parametrize("state", ["other_scene", "identical", "swapped", "shifted", "upscaled", "flat"])
@pytest.mark.parametrize("dropped", [False, True])
def test_states_of_pairs_are_counted_and_named(tmp_path, state, dropped):
    drop = [schema.decision("pairs", "scene", "drop", "another scene")] if dropped else []
    rows = [{"pair.state": "ok"}] * 120 + [{"pair.state": state, "decisions": drop}] * 4
    path = manifest(tmp_path / "m", rows, pair__state=pa.string())
    (finding,) = diagnose(path)
    assert (finding.kind, finding.count) == (state, 4)
    assert finding.names == ("lq/120.png", "lq/121.png", "lq/122.png")
    assert ("none is kept" in finding.text) == dropped
    assert finding.severity == "error" or dropped or state in ("shifted", "upscaled", "flat")


def test_leaks_by_content_looks_and_group(tmp_path):
    rows = [{"split": "train"} for _ in range(100)]
    rows += [{"split": "ref", "group": f"r{i}"} for i in range(10)] + [{"split": "test"} for _ in range(4)]
    rows[110] |= {"gt_sha256": f"{3:064x}"[::-1]}
    rows[111] |= {"lq.sha256": f"{10_004:064x}"[::-1]}
    rows[112] |= {"group": "d/gt/5.png"}
    look = int(manifest_looks(114)[6])
    rows[113] |= {"phash": f"{look ^ 0b111:016x}"}
    leaks = found(manifest(tmp_path / "m", rows))
    assert {kind: leaks[kind].count for kind in leaks if kind.startswith("leak")} == {
        "leak_content": 2, "leak_looks": 1, "leak_group": 1,
    }  # fmt: skip
    assert leaks["leak_group"].names == ("lq/112.png",) and leaks["leak_looks"].names == ("lq/113.png",)
    assert all(leaks[kind].severity == "error" for kind in leaks if kind.startswith("leak"))


def manifest_looks(count):
    return np.random.default_rng(0).integers(0, 2**63, count, dtype=np.uint64)


def test_scenes_by_name_are_believed_only_where_hashes_agree(tmp_path):
    rng = np.random.default_rng(1)
    rows, others = [], []
    for scene in range(30):
        base = int(rng.integers(0, 2**63))
        for frame in range(4):
            bits = sum(1 << int(b) for b in rng.choice(60, 9, replace=False))
            rows.append({"gt_path": f"gt/scene{scene:02d}_{frame}.png", "phash": f"{base ^ bits:016x}"})
            others.append({"gt_path": f"gt/scene{scene:02d}_{frame}.png"})
    scenes = found(manifest(tmp_path / "m", rows))["scenes_without_group"]
    assert scenes.count == 30 and "--group" in scenes.command
    assert "scenes_without_group" not in found(manifest(tmp_path / "n", others))
    grouped = [row | {"group": f"s{i // 4}"} for i, row in enumerate(rows)]
    assert "scenes_without_group" not in found(manifest(tmp_path / "g", grouped))


def test_small_tasks_references_copies_licenses_and_scores(tmp_path):
    rows = [{"split": "train", "task": "sr", "license": None} for _ in range(60)]
    rows += [{"split": "ref", "task": "sr", "group": "one"} for _ in range(10)]
    rows[1] |= {name: rows[0].get(name, f"{0:064x}"[::-1]) for name in ("gt_sha256",)} | {
        "lq.sha256": f"{10_000:064x}"[::-1]
    }
    for i, row in enumerate(rows):
        row |= {"iqa.piqe": None if i < 7 else 30.0, "degradation.blur": 0.9 if i in (20, 21) else 0.1}
    path = manifest(tmp_path / "m", rows, iqa__piqe=pa.float64(), degradation__blur=pa.float64())
    kinds = found(path, min_pairs=80)
    assert kinds["few_pairs"].count == 70 and "few_pairs" not in found(path, min_pairs=70)
    assert kinds["few_reference_groups"].severity == "error" and "one photograph" in kinds["few_reference_groups"].text
    assert kinds["copies"].count == 1 and kinds["copies"].command.startswith("curate dedup")
    assert kinds["no_license"].count == 60
    assert (kinds["missing_scores"].count, kinds["degraded_gt"].count) == (7, 2)
    assert kinds["missing_scores"].command == f"curate score {path} --iqa piqe -o {path}-score"
    assert kinds["equal_sizes"].count == 70


def test_errors_have_their_most_frequent_reasons(tmp_path):
    wrong = [schema.decision("ingest", "pair", "error", "no GT file matches this LQ")]
    gone = [schema.decision("score", "measure", "error", "1.png: No such file")]
    rows = [{}] * 120 + [{"decisions": wrong}] * 5 + [{"decisions": gone}] * 2
    errors = [one for one in diagnose(manifest(tmp_path / "m", rows)) if one.kind == "errors"]
    assert [one.count for one in errors] == [5, 2]
    assert "no GT file matches" in errors[0].text and "--status error" in errors[0].command
    assert errors[1].command.startswith("curate retry")
    none = manifest(tmp_path / "n", [{"decisions": wrong}] * 3)
    assert diagnose(none)[0].severity == "error" and {"nothing_kept", "errors"} <= {f.kind for f in diagnose(none)}


def test_shards_without_a_reference(hazy, tmp_path):
    made = ingest(str(hazy), str(tmp_path / "m"), lq="hazy/{id}_*.jpg", gt="clear/{id}.png", task="dehaze")
    rows = made.table()
    trained = schema.set_column(rows, "split", ["train"] * rows.num_rows, pa.string())
    table.write(str(tmp_path / "t"), trained, roots=made.roots, stages=made.stages)
    kinds = found(shard(str(tmp_path / "t"), str(tmp_path / "s")).path)
    assert kinds["no_ref"].severity == "error" and kinds["no_test"].severity == "warning"
    whole = shard(split(made.path, str(tmp_path / "split"), ref=2, test=2).path, str(tmp_path / "s2")).path
    assert not {"no_ref", "no_test"} & set(found(whole))


def test_the_command_prints_json_lines_and_codes(command, tmp_path):
    rows = [{"pair.state": "ok"}] * 99 + [{"pair.state": "identical", "lq_path": "x[/b]\x1b[31m.png"}]
    path = manifest(tmp_path / "m", rows, pair__state=pa.string())
    code, out, _ = command("curate", "doctor", path)
    assert code == 0 and "error   1 pairs whose LQ equals the GT" in out and f"$ curate pairs {path}" in out
    assert "x[/b]\\x1b[31m.png" in out and "\x1b" not in out
    code, out, _ = command("curate", "doctor", path, "--json", "--strict")
    assert code == 1 and [one["kind"] for one in json.loads(out)] == ["identical"]
    assert command("curate", "doctor", path, "--min-pairs", "0")[0] == 0
    code, _, err = command("curate", "doctor", str(tmp_path / "none"))
    assert code == 1 and "no such manifest" in err


def test_show_lists_rows_and_escapes_what_a_terminal_would_obey(command, tmp_path):
    wrong = [schema.decision("ingest", "pair", "error", "two LQs [red]fit[/red]")]
    rows = [{}] * 5 + [{"decisions": wrong, "lq_path": "a\x1b[2J.png", "task": "sr"}]
    path = manifest(tmp_path / "m", rows)
    assert len(show(path, status="kept", limit=3)) == 3 and len(show(path, limit=0)) == 6
    (row,) = show(path, status="error")
    assert row["reasons"] == ["ingest: two LQs [red]fit[/red]"] and row["pair_id"] == "00000000"
    assert show(path, task="sr", columns=["width"])[0]["width"] == 64
    code, out, _ = command("curate", "show", path, "--status", "error", "--columns", "width,height")
    assert code == 0 and "a\\x1b[2J.png" in out and "two LQs [red]fit[/red]" in out and "\x1b" not in out
    for arguments, said in (
        (["--columns", "nope"], "has no column 'nope'"),
        (["--status", "fine"], "choose kept, dropped, error"),
        (["--task", "x"], "has no task 'x'; it has dehaze, sr"),
    ):
        code, _, err = command("curate", "show", path, *arguments)
        assert code == 2 and said in err and err.count("\n") == 1
    with pytest.raises(UserError, match="no such manifest"):
        show(str(tmp_path / "none"))
