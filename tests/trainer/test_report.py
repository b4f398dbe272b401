"""The report: whole, offline, and right."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from manifests.errors import UserError
from tests.manifests.test_pages import check_page
from trainer import config, evaluate, gallery, grid, loop
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
    check_page(text)
    return text.replace(max(scripts, key=len), "")


def _figures(page: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(re.findall(r'id="figures">(.*?)</script>', page, re.DOTALL)[0])
    return found


def _plain(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


def test_a_run_without_an_evaluation_shows_its_reference_scores(run: str, tmp_path: Path) -> None:
    page = _page(report(run, output=str(tmp_path / "r.html")))
    assert "D_ref at step 4" in page and "&lt;run&gt; &amp; co" in page
    assert page.count('data-label="output"') == 9  # worst, median and best of three tasks, out of samples/gallery.png


def test_the_report_is_self_contained(run: str, manifest: str) -> None:
    result = evaluate.evaluate(run, manifest, device="cpu")
    path = report(run)
    page = _page(path)
    assert "http://" not in page.replace("http://www.w3.org", "") and "https://" not in page
    images = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    assert len(images) == 36  # LQ, output, GT and difference of three images of three tasks
    assert len(page) < 2_000_000
    for row in result.table:
        assert f"{row.value:.3f}" in page
    assert result.conventions["fingerprint"] in page
    figures = _figures(page)
    assert list(figures) == ["losses", "scores-1", "weights"]
    titles = {name: figure["layout"]["yaxis"]["title"]["text"] for name, figure in figures.items()}
    assert titles["scores-1"] == "change of PSNR, dB" and titles["weights"] == "share of the batch"
    assert any(unit in titles["losses"] for unit in ("dB", "share of the full range"))
    assert path == f"{run}/report.html"
    with pytest.raises(UserError, match="exists already"):
        report(run)


def _evaluation(path: Path, *rows: dict[str, Any]) -> str:
    base = {"metric": "psnr", "value": 30.0, "se": 2.0, "n": 12, "lq": 30.0}
    content = {"step": 4, "split": "test", "conventions": {"fingerprint": "0"}, "missing": {}}
    path.write_text(json.dumps({**content, "table": [{**base, **row} for row in rows]}))
    return str(path)


def _cells(page: str) -> dict[str, tuple[str, str]]:
    """Task → class and text of its gain."""
    rows = re.findall(r"</span>(\w+)</td><td>psnr.*?</tr>", page, re.DOTALL)
    gains = re.findall(r'<td class="n (\w*)">([+-][\d.]+)</td>', page)
    return dict(zip(rows, gains, strict=True))


def test_gains_are_paired_and_colored_by_their_own_error(run: str, tmp_path: Path) -> None:
    path = _evaluation(
        tmp_path / "e.json",
        {"task": "up", "value": 31.0, "gain": 1.0, "gain_se": 0.2, "groups": 3},
        {"task": "down", "value": 29.0, "gain": -1.0, "gain_se": 0.2, "groups": 3},
        {"task": "within", "value": 29.9, "gain": -0.1, "gain_se": 0.2, "groups": 3},
        {"task": "same", "gain": 0.0, "gain_se": 0.0, "groups": 3},
    )
    page = _page(report(run, evaluation=path, output=str(tmp_path / "r.html")))
    assert _cells(page) == {
        "down": ("bad", "-1.000"), "same": ("", "+0.000"), "up": ("good", "+1.000"), "within": ("", "-0.100"),
    }  # fmt: skip
    text = _plain(page)
    assert "± SE of gain" in text and "groups" in text
    assert "same : the output equals the input (gain +0.000 dB)" in text
    assert "down : restored below its input, gain -1.000 dB ± 0.200" in text
    assert "within :" not in text


def test_without_an_error_of_gains_none_is_made_up(run: str, tmp_path: Path) -> None:
    path = _evaluation(tmp_path / "e.json", {"task": "up", "value": 31.0}, {"task": "down", "value": 29.0})
    page = _page(report(run, evaluation=path, output=str(tmp_path / "r.html")))
    assert "± SE" not in page and _cells(page) == {"up": ("", "+1.000"), "down": ("", "-1.000")}
    assert "its standard error is not known" in page


def test_diagnoses_stand_on_top(run: str, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    event = {"event": "diagnosis", "task": "sr", "kind": "flat", "text": "no <gain> yet", "advice": "Raise --lr."}
    with (tmp_path / "run" / "run.jsonl").open("a") as file:
        for step in (2, 4):
            file.write(json.dumps({**event, "step": step}) + "\n")
        file.write('{"event": "diagn')  # cut off
    page = _page(report(str(tmp_path / "run"), output=str(tmp_path / "r.html")))
    assert page.count("no &lt;gain&gt; yet") == 1 and "(step 4)" in page and "Raise --lr." in page
    assert page.index("no &lt;gain&gt; yet") < page.index('id="result"')


def test_a_gallery_is_read_as_it_was_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows: list[Any] = []
    for size in ((24, 40), (30, 8)):
        shown = gallery.Shown("sr", "best", 1, "ab", "psnr", None, 20.0, *size)
        rows.append((shown, tuple(rng.integers(0, 255, (*size, 3), np.uint8) for _ in range(3))))
    (tmp_path / "g.png").write_bytes(gallery.encode(rows))
    for (shown, triple), (before, pixels) in zip(gallery.read(str(tmp_path / "g.png")), rows, strict=True):
        assert shown == before and all(np.array_equal(a, b) for a, b in zip(triple, pixels, strict=True))
    (tmp_path / "n.png").write_bytes(b"nothing")
    assert gallery.read(str(tmp_path / "n.png")) == gallery.read(str(tmp_path / "absent.png")) == []


def test_a_gallery_shows_worst_median_and_best_by_gain() -> None:
    def score(name: str, lq: float | None, value: float | None) -> evaluate.Scored:
        return evaluate.Scored(name, "d", "sr", "", "psnr", lq, value)

    scored = [score("a", 20, 25), score("b", 40, 41), score("c", 10, 13), score("d", 9, None)]
    assert [(rank, n, one.pair_id) for rank, n, one in gallery.choose(scored, {"psnr": True})] == [
        ("worst", 3, "b"), ("median", 3, "c"), ("best", 3, "a"),
    ]  # fmt: skip
    assert [one.pair_id for _, _, one in gallery.choose(scored, {"psnr": False})] == ["a", "c", "b"]
    alone = gallery.choose([score("a", None, 25)], {"psnr": True})
    assert [(rank, one.pair_id) for rank, _, one in alone] == [("median", "a")]


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
    small = grid.cut(grid.compose([[rows[0][0][:50, :21]]]), columns=1)[0][0]
    assert small.shape == (grid.CELL, grid.CELL, 3) and (small != 255).any()
