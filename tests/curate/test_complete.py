"""Scores are missing per row, not per column: what rows lack is measured before a stage reads it."""

import numpy as np
import pytest

from curate.caption import caption
from curate.degrade import degrade
from curate.filter import filter as filter_
from curate.filter import preview, preview_policy
from curate.identify import COLUMNS, identify
from curate.ingest import ingest
from curate.merge import merge
from curate.report import report
from curate.score import score
from manifests import table
from manifests.errors import UserError


@pytest.fixture
def merged(hazy, save, photographs, tmp_path):
    """Pairs without scores, photographs with all of them and crops of these without, and LQs that have no GT."""
    ingest(str(hazy), str(tmp_path / "haze"), lq="hazy/{id}_*.jpg", gt="clear/{id}.png", task="dehaze")
    for name, pixels in photographs.items():
        save(f"photos/{name}.png", np.ascontiguousarray(pixels[:, ::-1]))
        save(f"real/{name}.png", np.ascontiguousarray(pixels[::2, ::2]))
    clean = ingest(
        str(tmp_path / "photos"), str(tmp_path / "photos.m"), gt="{id}.png", task="clean", score=["piqe"], identify=True
    )
    crops = degrade(clean.path, str(tmp_path / "crops"), tasks=["denoise"], crop=128, crops=1)
    return merge([str(tmp_path / "haze"), crops.path, _lq_only(tmp_path)], str(tmp_path / "merged")).path


def _lq_only(tmp_path):
    """A manifest whose rows have an LQ and no GT."""
    made = ingest(str(tmp_path / "real"), str(tmp_path / "gts"), gt="{id}.png", task="real")
    rows = made.table().to_pylist()
    for row in rows:
        row.update({f"lq.{name}": row[name] for name in ("width", "height", "mode", "phash")})
        row.update({"lq_path": row["gt_path"], "lq.sha256": row["gt_sha256"]})
        row.update(dict.fromkeys(("gt_path", "gt_sha256", "width", "height", "mode", "phash")))
    import pyarrow as pa

    columns = {field.name: pa.array([row[field.name] for row in rows], field.type) for field in made.table().schema}
    done = table.write(str(tmp_path / "real.m"), pa.table(columns), roots=made.roots, stages=made.stages)
    return done.path


def judged(manifest):
    return [row for row in table.read(manifest).table().to_pylist() if row["gt_sha256"]]


def test_a_merge_of_which_one_part_was_identified_is_filtered(merged, tmp_path):
    done = filter_(merged, str(tmp_path / "f"), iqa=["piqe"], maximum={"piqe": 90}, max_degradation=0.95)
    assert done.rows["error"] == 0 and done.rows["kept"] > done.rows["dropped"]
    for row in judged(done.path):
        assert row["iqa.piqe"] is not None and None not in [row[name] for name in COLUMNS]
    assert [row["status"] for row in done.table().to_pylist() if not row["gt_sha256"]] == ["kept"] * 6


def test_what_is_filled_in_is_what_a_whole_run_gives(merged, tmp_path):
    whole = identify(merged, str(tmp_path / "i"))
    filled = filter_(merged, str(tmp_path / "f"), max_degradation=1.0)
    for name in COLUMNS:
        assert whole.table().column(name).to_pylist() == filled.table().column(name).to_pylist()
    assert whole.rows["error"] == filled.rows["error"] == 0
    assert [row["gt_path"] for row in judged(whole.path) if row["degradation.noise"] is None] == []


@pytest.mark.parametrize(
    "rules",
    [
        {"iqa": ["entropy"]},
        {"drop_worst": {"piqe": 20}},
        {"minimum": {"iqa.contrast": 0.01}},
        {"maximum": {"degradation.jpeg": 1.0}},
        {"drop_worst": {"degradation.noise": 20}},
        {"iqa": ["piqe", "entropy"]},
    ],
)
def test_every_rule_passes_rows_without_a_gt_and_measures_the_others(merged, tmp_path, rules):
    before = preview(merged, **rules)
    done = filter_(merged, str(tmp_path / "f"), **rules)
    assert done.rows["error"] == 0
    assert before["real"] == {"rows": 6, "kept": 6, "dropped": 0, "error": 0}
    assert sum(row["dropped"] for row in before.values()) == done.rows["dropped"]


def test_a_policy_over_columns_that_some_rows_lack_measures_them(merged, tmp_path):
    policy = tmp_path / "p.yaml"
    policy.write_text("keep:\n  clean: max(degradation.*) < 0.99\n  even: entropy > 1\n  best: piqe <= quantile(95%)\n")
    table_ = preview_policy(merged, str(policy))
    assert sum(row["unknown"] for row in table_ if row["clause"]) == 0
    done = filter_(merged, str(tmp_path / "f"), policy=str(policy))
    assert done.rows["error"] == 0 and done.rows["kept"] == 6 + sum(row.get("kept", 0) for row in table_)
    policy.write_text("keep: iqa.musiq is missing or iqa.musiq > 3")
    with pytest.raises(UserError):
        filter_(merged, str(tmp_path / "g"), policy=str(policy))
    policy.write_text("keep: iqa.piqe is missing or iqa.contrast > 0")  # asked for, not compared: not measured
    done = filter_(merged, str(tmp_path / "h"), policy=str(policy))
    assert None in [row["iqa.piqe"] for row in judged(done.path)] and done.rows["error"] == 0


def test_without_measuring_such_rows_are_errors_of_the_rule(merged, tmp_path):
    with pytest.raises(UserError, match=r"has no piqe to be judged by") as stopped:
        filter_(merged, str(tmp_path / "f"), maximum={"piqe": 90}, measure=False)
    assert stopped.value.exit_code == 3


def test_a_dry_run_measures_and_the_real_run_goes_on_with_it(merged, tmp_path, monkeypatch):
    from curate import scorers

    calls = []
    real = scorers.measure
    monkeypatch.setattr(scorers, "measure", lambda *given: calls.append(1) or real(*given))
    said = []
    preview(merged, str(tmp_path / "f"), maximum={"piqe": 60}, say=said.append)
    measured = len(calls)
    assert measured and not (tmp_path / "f" / "manifest.json").exists() and "goes on with them" in said[-1]
    done = filter_(merged, str(tmp_path / "f"), maximum={"piqe": 80})
    assert len(calls) == measured and done.rows["error"] == 0
    preview(merged, str(tmp_path / "f"), maximum={"entropy": 60})  # beside a finished output it leaves nothing
    assert not (tmp_path / "f" / ".work").exists()


def test_caption_identify_score_and_report_take_the_merge(merged, tmp_path):
    captioned = caption(merged, str(tmp_path / "c"))
    assert all(row["caption"] for row in judged(captioned.path)) and captioned.rows["error"] == 0
    assert score(merged, str(tmp_path / "s"), iqa=["piqe"]).rows["error"] == 0
    with open(report(merged), encoding="utf-8") as page:
        assert "iqa.piqe" in page.read()
