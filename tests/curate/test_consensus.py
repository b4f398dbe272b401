"""Policies in a file: the language, what each clause removes, quantiles and budgets, and what the rows then say."""

from collections import Counter
from functools import partial

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from curate import expressions
from curate.cli import app
from curate.filter import filter as filter_
from curate.filter import preview_policy as preview_policy_
from manifests import schema, table
from manifests.errors import UserError

run, preview_policy = partial(filter_, measure=False), partial(preview_policy_, measure=False)  # there are no files
STAGE = {"stage": "test", "version": 1, "params": {}, "inputs": []}
COLUMNS = ["task", "iqa.musiq", "iqa.piqe", "degradation.noise", "degradation.blur", "judge.quality"]
NAN = float("nan")


def small(**values):
    columns = {name: np.array(some, object if any(isinstance(x, str) for x in some) else np.float64)
               for name, some in values.items()}  # fmt: skip
    return expressions.Table(columns, np.zeros(len(next(iter(values.values()))), np.int64), {})


def truth(text, **values):
    named = {name.replace("__", "."): some for name, some in values.items()}
    return expressions.parse(text, list(named)).truth(small(**named)).tolist()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a >= 2", [0, 1, -1]),
        ("a < 2 or b == 1", [1, 0, 1]),
        ("not a >= 2", [1, 0, -1]),
        ("a >= 2 and b == 1", [0, 0, -1]),
        ("a is missing or a > 1", [0, 1, 1]),
        ("a is known", [1, 1, 0]),
        ("max(a, b) > 1.5", [0, 1, -1]),
        ("min(a, b) == 0", [0, 1, -1]),
        ("a > b", [0, 1, -1]),
        ("w in [good, 'very good']", [1, 0, 1]),
        ("w not in [good]", [0, 1, 1]),
        ("w == bad", [0, 1, 0]),
        ("(a > 1 or b == 1) and w != bad", [1, 0, 1]),
        ("a >= -1e2", [1, 1, -1]),
    ],
)
def test_the_language(text, expected):
    assert truth(text, a=[1.0, 2.0, NAN], b=[1.0, 0.0, 1.0], w=["good", "bad", "very good"]) == expected
    parsed = expressions.parse(text, ["a", "b", "w"])
    again = str(parsed).replace("very good", "'very good'")
    assert str(expressions.parse(again, ["a", "b", "w"])) == str(parsed)  # what it says of itself means the same


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("iqa.musik >= 4", "character 1: there is no column iqa.musik, did you mean iqa.musiq"),
        ("iqa.musiq >=", "character 13: expected a column or a number"),
        ("iqa.musiq 45", "character 11: expected a comparison"),
        ("iqa.musiq >= 45 and", "expected a column or a number"),
        ("(iqa.musiq >= 45", r"expected '\)'"),
        ("iqa.musiq >= 45 iqa.piqe < 3", "character 17: expected 'and', 'or' or the end"),
        ("degradation.* < 0.5", "are 2 columns: say max"),
        ("daclip.* < 1", "no column is called daclip"),
        ("judge.quality in good", r"expected '\['"),
        ("iqa.musiq ? 4", "character 11: not understood"),
        ("iqa.musiq >= quantile(5)", "expected a share such as 5%"),
        ("iqa.musiq >= quantile(500%)", "between 0% and 100%"),
    ],
)
def test_what_is_not_understood_is_named_with_its_place(text, said):
    with pytest.raises(UserError, match=said):
        expressions.parse(text, COLUMNS)


def test_text_is_not_a_number():
    with pytest.raises(UserError, match=r"judge\.quality is text"):
        truth("judge.quality >= 3", judge__quality=["good"])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0, NAN]), st.sampled_from([0.0, 1.0, NAN])), min_size=1, max_size=9))
def test_logic_is_kleenes(pairs):
    a, b = ([pair[k] for pair in pairs] for k in range(2))
    both, either = truth("a == 1 and b == 1", a=a, b=b), truth("a == 1 or b == 1", a=a, b=b)
    other = truth("not (not a == 1 or not b == 1)", a=a, b=b)
    assert both == other  # De Morgan
    for x, y, conjunction, disjunction in zip(a, b, both, either, strict=True):
        assert conjunction == (0 if 0.0 in (x, y) else -1 if NAN in (x, y) or x != x or y != y else 1)
        assert disjunction == (1 if 1.0 in (x, y) else -1 if x != x or y != y else 0)


@pytest.fixture
def judged(tmp_path):
    """Twelve GTs of two tasks; the first GT of each has two LQs."""
    rows = []
    for k in range(14):
        number, task = min(k, 12) if k < 13 else 0, ("sr", "dehaze")[k % 2]
        number = {12: 0, 13: 1}.get(k, k)
        rows.append({
            "pair_id": schema.pair_id("d", task, "", f"lq{k}", f"gt{number}"), "dataset": "d", "task": task,
            "subtask": "", "group": f"g{number}", "lq_path": f"lq{k}", "gt_path": f"gt{number}",
            "gt_sha256": f"{number:064x}"[::-1], "decisions": [],
            "iqa.musiq": None if number == 11 else 30.0 + 2 * number, "degradation.noise": 0.9 if number == 4 else 0.1,
            "degradation.blur": 0.7 if number in (5, 1) else 0.2,
            "judge.quality": ("bad", "good", "excellent")[number % 3],
        })  # fmt: skip
    kinds = {name: kind for name, kind in schema.CORE.items() if name != "status"}
    columns = {name: pa.array([row.get(name) for row in rows], kinds.get(name)) for name in [*kinds, *rows[0]]}
    path = str(tmp_path / "judged")
    table.write(path, pa.table(columns), roots={"d": str(tmp_path)}, stages=[STAGE], part_rows=5)
    return path


def policy(tmp_path, text, name="policy.yaml"):
    (tmp_path / name).write_text(text)
    return str(tmp_path / name)


def test_what_a_policy_keeps_and_says(judged, tmp_path):
    path = policy(
        tmp_path,
        "keep when iqa.musiq >= 36 and max(degradation.*) < 0.5 and judge.quality in [good, excellent]",
    )
    done = run(judged, str(tmp_path / "out"), policy=path)
    rows = done.table().to_pylist()
    kept = [row["gt_path"] for row in rows if row["status"] == "kept"]
    assert kept == ["gt7", "gt8", "gt10"]
    by_gt = {row["gt_path"]: row["decisions"] for row in rows}
    assert [one["rule"] for one in by_gt["gt3"]] == ["policy:judge.quality in [good, excellent]"]
    (noisy,) = by_gt["gt4"]
    assert noisy["text"] == (
        "degradation.blur 0.2, degradation.noise 0.9: not max(degradation.blur, degradation.noise) < 0.5"
    )
    assert (noisy["value"], noisy["threshold"]) == (0.9, 0.5)
    (unknown,) = by_gt["gt11"]
    assert unknown["verdict"] == "error" and unknown["text"] == "has no iqa.musiq to be judged by"
    looser = run(done.path, str(tmp_path / "looser"), policy=policy(tmp_path, "keep: iqa.musiq >= 30", "loose.yaml"))
    assert looser.rows["kept"] == 13 and looser.rows["error"] == 1  # what an earlier policy dropped is revived


def test_the_dry_run_tells_what_each_clause_removes(judged, tmp_path):
    path = policy(tmp_path, "keep:\n  sharp: musiq >= 36\n  clean: max(degradation.*) < 0.5\n")
    found = {(row["task"], row["clause"]): row for row in preview_policy(judged, path)}
    assert found["sr", "sharp"]["removes"] == 3 and found["sr", "clean"]["removes"] == 1  # gt0 twice, gt2; gt4
    assert found["sr", "sharp"]["only it"] == 3
    assert found["dehaze", "sharp"] == {"task": "dehaze", "clause": "sharp", "removes": 2, "only it": 0, "unknown": 1}
    assert (found["dehaze", ""]["judged"], found["dehaze", ""]["kept"]) == (7, 3)
    done = run(judged, str(tmp_path / "out"), policy=path)
    assert done.rows["kept"] == sum(row["kept"] for row in found.values() if "kept" in row)
    shown = CliRunner().invoke(app, ["filter", judged, "--policy", path, "--dry-run", "--no-measure"])
    assert shown.exit_code == 0 and "only it" in shown.output and f"all: {done.rows['kept']} of 14" in shown.output


def test_quantiles_are_of_the_task_and_of_distinct_gts(judged, tmp_path):
    path = policy(tmp_path, "keep: {upper: iqa.musiq >= quantile(50%)}")
    rows = run(judged, str(tmp_path / "out"), policy=path).table().to_pylist()
    even = [30.0 + 2 * k for k in range(0, 12, 2)]
    limit = float(np.quantile(even, 0.5))
    for row in rows:
        if row["task"] == "sr":
            assert (row["status"] == "kept") == (row["iqa.musiq"] >= limit)
    dropped = next(row for row in rows if row["gt_path"] == "gt2")["decisions"][0]
    assert dropped["threshold"] == pytest.approx(limit) and "in sr: 40" in dropped["text"]


def test_a_budget_keeps_the_best_whole_gts_of_each_task(judged, tmp_path):
    path = policy(tmp_path, "keep: degradation.noise < 0.5\nbudget: {pairs: 3, by: iqa.musiq}\n")
    rows = run(judged, str(tmp_path / "out"), policy=path).table().to_pylist()
    assert [row["gt_path"] for row in rows if row["status"] == "kept" and row["task"] == "sr"] == ["gt6", "gt8", "gt10"]
    worse = next(row for row in rows if row["gt_path"] == "gt2")["decisions"][0]
    assert worse["rule"] == "policy:budget" and "not among the best 3 pairs" in worse["text"]
    assert next(row for row in rows if row["gt_path"] == "gt4")["decisions"][0]["rule"] != "policy:budget"
    thousands = policy(tmp_path, "keep: degradation.noise < 0.5\nbudget: {pairs: 0.003k, by: iqa.musiq}\n", "k.yaml")
    same = run(judged, str(tmp_path / "k"), policy=thousands).table().to_pylist()
    assert [row["status"] for row in same] == [row["status"] for row in rows]
    lowest = policy(tmp_path, "keep: degradation.noise < 0.5\nbudget: {pairs: 3, by: -iqa.musiq}\n", "low.yaml")
    rows = run(judged, str(tmp_path / "low"), policy=lowest).table().to_pylist()
    kept = [row["gt_path"] for row in rows if row["status"] == "kept" and row["task"] == "sr"]
    assert kept == ["gt0", "gt2", "gt0"]  # the first GT has two pairs, and both stay


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("keep: [1", "not valid YAML"),
        ("min: 3", "has no 'keep'"),
        ("keep: iqa.musiq > 3\nbest: 3", "unknown 'best'"),
        ("keep: iqa.musiq > 3\nbudget: 3", "write {pairs"),
        ("keep: iqa.musiq > 3\nbudget: {pairs: 3, by: iqa.mus}", "there is no column iqa.mus"),
        ("keep: iqa.musiq > 3\nbudget: {pairs: 3, by: judge.quality}", "nobody says which end"),
        ("keep: iqa.musik > 3", "policy.yaml: .* did you mean iqa.musiq"),
        ("keep: {a: iqa.musiq > 3, a: iqa.musiq > 4}", "'a' is given twice"),
        ("keep: {budget: iqa.musiq > 3}", "cannot be called 'budget'"),
        ("keep: {'': iqa.musiq > 3}", "cannot be called ''"),
        ("keep: task >= quantile(5%)", "policy.yaml: task is text: it has no quantiles"),
        ("keep: iqa.musiq == good", "policy.yaml: .* one is text, the other a number"),
        ("keep: judge.quality == 3", "one is text, the other a number"),
        ("keep: iqa.musiq in [good]", "iqa.musiq is a number, good is not"),
        ("keep: iqa.musiq > 3\nbudget: {pairs: 3, by: -judge.quality}", "no number to rank by"),
        ("keep: iqa.musiq > 3\nbudget: {pairs: 3, by: -decisions}", "no number to rank by"),
        ("keep: iqa.musiq > 3\nbudget: {pairs: yes, by: iqa.musiq}", "write {pairs"),
        ("keep: " + 3000 * "(" + "iqa.musiq > 3" + 3000 * ")", "nested too deeply"),
    ],
)
def test_a_wrong_policy_is_one_line(judged, tmp_path, text, said):
    with pytest.raises(UserError, match=said) as caught:
        run(judged, str(tmp_path / "out"), policy=policy(tmp_path, text))
    assert caught.value.exit_code == 2 and not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="stands for itself"):
        run(judged, str(tmp_path / "out"), policy="x", iqa=["piqe"])


def test_what_another_filter_holds_back_takes_no_room(judged, tmp_path):
    """The budget and the dry run count the rows that the policy alone decides about."""
    first = run(judged, str(tmp_path / "first"), minimum={"iqa.musiq": 37})
    assert first.rows["dropped"]
    path = policy(tmp_path, "keep: iqa.musiq >= 0\nbudget: {pairs: 3, by: -iqa.musiq}\n")
    said = preview_policy(first.path, path)
    done = run(first.path, str(tmp_path / "out"), policy=path)
    kept = Counter(row["task"] for row in done.table().to_pylist() if row["status"] == "kept")
    assert kept and set(kept.values()) <= {2, 3}
    assert {row["task"]: row["kept"] for row in said if not row["clause"] and row["kept"]} == kept


def test_a_boolean_column_is_compared_with_true_and_false(judged, tmp_path):
    whole = table.read(judged)
    said = pa.array([(None, True, False)[row % 3] for row in range(whole.rows["rows"])])
    parts = pa.concat_tables(list(whole.parts())).append_column("pair.identical", said)
    flagged = str(tmp_path / "flagged")
    table.write(flagged, [parts], roots=whole.roots, stages=[*whole.stages, STAGE])
    for word, kept in (("true", True), ("false", False)):
        policy = tmp_path / f"{word}.yaml"
        policy.write_text(f"keep: {{x: pair.identical == {word}}}")
        done = run(flagged, str(tmp_path / word), policy=str(policy))
        rows = pa.concat_tables(list(done.parts(["status", "pair.identical"]))).to_pylist()
        assert {row["pair.identical"] for row in rows if row["status"] == "kept"} == {kept}
