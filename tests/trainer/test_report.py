"""The report: whole, offline, and right."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from manifests.errors import UserError
from trainer import config, evaluate, grid, loop
from trainer.report import report


@pytest.fixture(scope="module")
def run(manifest: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    layers: dict[str, Any] = {
        "data": {"manifest": manifest, "batch": 4, "crop": 24, "workers": 0},
        "model": {"options": {"width": 4}},
        "optimiser": {"steps": 4},
        "evaluation": {"interval": 2},
        "run": {"device": "cpu", "threads": 1},
    }
    out = str(tmp_path_factory.mktemp("reported") / "<run> & co")
    loop.run(config.build(layers), out)
    return out


def _page(path: str) -> str:
    """The page without plotly.js itself, which mentions addresses that it does not load."""
    text = Path(path).read_text()
    scripts = re.findall(r"<script[^>]*>.*?</script>", text, re.DOTALL)
    assert len(max(scripts, key=len)) > 1_000_000 and sum(len(script) > 1_000_000 for script in scripts) == 1
    return text.replace(max(scripts, key=len), "")


def test_a_run_without_an_evaluation_shows_its_reference_scores(run: str, tmp_path: Path) -> None:
    page = _page(report(run, output=str(tmp_path / "r.html")))
    assert "D_ref at step 4" in page and "&lt;run&gt; &amp; co" in page


def test_the_report_is_self_contained(run: str, manifest: str) -> None:
    result = evaluate.evaluate(run, manifest, device="cpu")
    path = report(run)
    page = _page(path)
    loads = re.findall(r"(?:src|href)\s*=\s*[\"']([^\"']*)|url\(([^)]*)\)|@import\s+(\S+)", page)
    assert all("".join(found).startswith("data:image/png;base64,") for found in loads)
    assert "http://" not in page and "https://" not in page
    assert page.count("data:image/png;base64,") == 9  # LQ, output and GT of three tasks
    for row in result.table:
        assert f"{row.value:.3f}" in page
    assert result.conventions["fingerprint"] in page and page.count("Plotly.newPlot") == 3
    assert path == f"{run}/report.html"
    with pytest.raises(UserError, match="exists already"):
        report(run)


def test_what_is_no_result_is_said(run: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps({"table": []}))
    with pytest.raises(UserError, match="not a result of 'trainer eval'"):
        report(run, evaluation=str(tmp_path / "x.json"), output=str(tmp_path / "r.html"))
    with pytest.raises(UserError, match="not a run folder"):
        report(str(tmp_path), output=str(tmp_path / "r.html"))


def test_cells_of_a_grid_are_found_again() -> None:
    rng = np.random.default_rng(0)
    rows = [[rng.integers(0, 255, (grid.CELL, grid.CELL, 3), np.uint8) for _ in range(3)] for _ in range(2)]
    for row, cells in zip(rows, grid.cut(grid.compose(rows)), strict=True):
        for image, cell in zip(row, cells, strict=True):
            assert np.array_equal(image, cell)
    small = grid.cut(grid.compose([[rows[0][0][:50, :21]]]))[0][0]
    assert small.shape == (grid.CELL, grid.CELL, 3) and (small != 255).any()
