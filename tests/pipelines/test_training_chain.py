"""From shards to a printed table, as the quickstart does it, on a few steps."""

import sys

import pytest

from pipelines import recipe, results, runner

CHAIN = """
name: tiny
steps:
  - {name: photos, run: pipelines.photos}
  - name: clean
    run: curate.ingest
    with: {folder: "@photos", gt: "{scene}/{id}.*", group: "{scene}", task: clean, dataset: photos}
  - {name: pairs, run: curate.degrade, with: {manifest: "@clean", crop: 64, crops: 2, tasks: [denoise, sr]}}
  - {name: split, run: curate.split, with: {manifest: "@pairs", ref: 2, test: 0.1}}
  - {name: shards, run: curate.shard, with: {manifest: "@split"}}
  - {name: run, run: trainer.run, with: {manifest: "@shards", rule: des, eta: 0.2, steps: 4, interval: 2, batch: 2,
      crop: 32}}
  - {name: test, run: trainer.eval, with: {checkpoint: "@run", manifest: "@shards"}}
  - {name: report, run: trainer.report, with: {run: "@run", evaluation: "@test"}}
"""


@pytest.mark.slow
def test_the_chain_ends_in_a_table_and_skips_when_run_again(tmp_path, capsys, monkeypatch):
    path = tmp_path / "tiny.yaml"
    path.write_text(CHAIN)
    loaded = recipe.load(str(path))
    places = runner.run(loaded, str(tmp_path / "o"))
    rows = results.rows(loaded, places)
    assert [row["task"] for row in rows] == ["denoise", "sr"]
    assert all(row["first"] == 0.5 and 0 < row["last"] < 1 and row["lq"] > 5 for row in rows)
    monkeypatch.setattr(sys, "argv", ["pipelines", "run", str(path), "-o", str(tmp_path / "o")])
    from pipelines.cli import main

    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 0
    out, err = capsys.readouterr()
    assert err.count("unchanged, skipped") == 8
    assert "restored beats LQ on" in out
    assert "report.html" in out
