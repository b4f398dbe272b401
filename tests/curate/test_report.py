"""The report: what stands in it, that nothing is loaded from anywhere, and that holes in the data do not stop it."""

import base64
import html
import io
import json
import re

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from curate import charts
from curate.filter import filter as filter_
from curate.ingest import ingest
from curate.report import report
from curate.shard import shard
from manifests import schema, table
from manifests.errors import UserError

STAGE = {"stage": "test", "version": 1, "params": {}, "inputs": []}


def write(path, rows, stages=(STAGE,)):
    """A manifest of rows that need only say what they are about; images lie in `data` beside it."""
    kinds = {name: kind for name, kind in schema.CORE.items() if name != "status"}
    rows = [{"pair_id": f"{i:032x}", "dataset": "d", "task": "clean"} | row for i, row in enumerate(rows)]
    extra = sorted({name for row in rows for name in row} - set(schema.CORE))
    columns = {name: pa.array([row.get(name) for row in rows], kinds.get(name)) for name in [*kinds, *extra]}
    table.write(str(path), pa.table(columns), roots={"d": str(path.parent / "data")}, stages=list(stages))
    return str(path)


def page_of(manifest, tmp_path, name="page"):
    with open(report(manifest, str(tmp_path / f"{name}.html")), encoding="utf-8") as file:
        return file.read()


def figures_of(page):
    """The Plotly figures of a page, by the column in their heading."""
    text = re.search(r"const figures = (\[.*\]);\n", page).group(1)
    columns = re.findall(r'<h3>([\w.]+) <span>[^<]*</span></h3><div id="chart-', page)
    return dict(zip(columns, json.loads(text), strict=True))


def own_part(page):
    """The page without plotly.js."""
    return re.sub(r"<script>.*?</script>", "", page, count=1, flags=re.S)


@pytest.fixture
def clean(hazy, tmp_path):
    """Six real photographs with signals and what the identifier makes of them."""
    done = ingest(
        str(hazy), str(tmp_path / "clean"), gt="clear/{id}.png", task="clean", dataset="p", score=["signals"],
        identify=True,
    )  # fmt: skip
    return done.path


def test_thresholds_reasons_and_thumbnails_of_a_filtered_manifest(clean, tmp_path):
    contrast = sorted(table.read(clean).table().column("iqa.contrast").to_pylist())
    done = filter_(clean, str(tmp_path / "f"), minimum={"contrast": contrast[2]}, drop_worst={"sharpness": 20})
    page = page_of(done.path, tmp_path)
    figure = figures_of(page)["iqa.contrast"]
    assert [shape["x0"] for shape in figure["layout"]["shapes"]] == [contrast[2]]
    assert figure["layout"]["annotations"][0]["text"] == f"min {contrast[2]:.4g}"
    assert sum(figure["data"][0]["y"]) == 6
    assert "worst" in figures_of(page)["iqa.sharpness"]["layout"]["annotations"][0]["text"]
    assert not figures_of(page)["iqa.haze"]["layout"]["shapes"]
    assert "min:contrast" in page
    assert f"is below {contrast[2]:g}" in page
    worst = re.search(r"<h3>iqa.contrast</h3>.*?</figure>", page, re.S).group(0)
    assert f'<b>{contrast[0]:.3g}</b> <span class="dropped">dropped</span>' in worst
    sharp = re.search(r"<h3>iqa.sharpness</h3>(.*?)</h3>", page, re.S).group(1)
    assert sharp.index("worst") < sharp.index("best"), "higher is better, so the lowest come first, as the worst"
    values = [float(v) for v in re.findall(r"<figcaption[^>]*><b>([\d.e-]+)</b>", sharp)]
    assert values[:3] == sorted(values[:3])
    assert values[3:] == sorted(values[3:], reverse=True)


def test_a_threshold_that_dropped_nothing_is_drawn_from_the_lineage(clean, tmp_path):
    done = filter_(clean, str(tmp_path / "f"), maximum={"noise_sigma": 1e6, "degradation.noise": 0.5})
    page = page_of(done.path, tmp_path)
    assert done.rows["dropped"] == 0
    far = figures_of(page)["iqa.noise_sigma"]["layout"]
    assert far["annotations"][0]["text"] == "max 1e+06 →"
    assert far["xaxis"]["range"][1] < 100, "a threshold far off must not squeeze the values"
    assert figures_of(page)["degradation.noise"]["layout"]["annotations"]
    assert "Why rows are not kept" not in page


def test_it_opens_offline_and_thumbnails_are_jpegs(clean, tmp_path):
    page = page_of(clean, tmp_path)
    own = own_part(page)
    assert not re.search(r"""(src|href)=["']?(https?:|//)|@import|url\(""", own)
    assert page.count("Plotly.newPlot(") >= 1
    assert len(page) - len(own) > 1_000_000, "plotly.js stands in the page"
    uris = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', own)
    assert uris
    for uri in set(uris):
        picture = Image.open(io.BytesIO(base64.b64decode(html.unescape(uri))))
        picture.load()
        assert (picture.format, max(picture.size)) == ("JPEG", 176)
    per_section = [len(re.findall("<figure", part)) for part in own.split("<h3>")]
    assert max(per_section) <= 12


def test_counts_per_dataset_task_subtask_and_split(tmp_path):
    error = [schema.decision("ingest", "pair", "error", "no LQ <file> matches this GT")]
    pair = {"task": "sr", "lq_path": "a.png", "gt_path": "b.png", "subtask": "x2"}
    rows = [pair | {"split": s} for s in ("train", "train", "ref", "test", None)]
    rows += [{"task": "derain", "lq_path": "a.png", "decisions": error}, {"gt_path": "b.png"}]
    page = page_of(write(tmp_path / "m", rows), tmp_path)
    plain = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", own_part(page)))
    assert "task kept train ref test no split clean 1 0 0 0 1 derain 0 0 0 0 0 sr 5 2 1 1 1" in plain
    assert "d sr x2 5 5 0 0 2 1 1 1" in plain
    assert "d derain – 1 0 0 1 0 0 0 0" in plain
    assert "error ingest pair 1 derain 1" in plain
    assert "no LQ &lt;file&gt; matches" in page
    assert "No pair of this task is kept." in page


def test_tasks_are_counted_by_distinct_gt_and_stacked(tmp_path):
    rows = [
        {"task": task, "gt_sha256": f"s{gt}", "gt_path": f"{gt}.png", "lq_path": f"{task}{gt}{k}.png"}
        | {"iqa.piqe": float(gt)}
        for task in ("dehaze", "sr")
        for gt in range(4)
        for k in range(3)
    ]
    figure = figures_of(page_of(write(tmp_path / "m", rows), tmp_path))["iqa.piqe"]
    assert [(bar["name"], sum(bar["y"])) for bar in figure["data"]] == [("dehaze", 4), ("sr", 4)]
    assert figure["data"][0]["x"] == figure["data"][1]["x"]
    assert figure["layout"]["barmode"] == "stack"
    assert len({bar["marker"]["color"] for bar in figure["data"]}) == 2


def test_missing_files_nulls_and_nan_do_not_stop_it(save, photographs, tmp_path):
    save("data/there.png", photographs["coffee"])
    (tmp_path / "data/broken.png").write_bytes(b"not an image")
    rows = [
        {"gt_path": "there.png", "gt_sha256": "1", "iqa.piqe": 10.0},
        {"gt_path": "gone.png", "gt_sha256": "2", "iqa.piqe": 20.0},
        {"gt_path": "broken.png", "gt_sha256": "3", "iqa.piqe": float("nan")},
        {"gt_path": None, "iqa.piqe": None, "iqa.empty": None},
        {"task": None, "lq_path": "gone-too.png", "gt_path": "broken.png"},
    ]
    page = page_of(write(tmp_path / "m", rows), tmp_path)
    assert page.count("file missing") == 3  # the score of gone.png, and both sides of the pair
    assert page.count("data:image/jpeg") == 1
    assert list(figures_of(page)) == ["iqa.piqe"]
    assert sum(figures_of(page)["iqa.piqe"]["data"][0]["y"]) == 2


def test_a_manifest_without_rows_or_scores(tmp_path):
    page = page_of(write(tmp_path / "empty", []), tmp_path)
    assert "The manifest has no rows." in page
    assert "Plotly" not in page
    bare = page_of(write(tmp_path / "bare", [{"gt_path": "x.png"}]), tmp_path, "bare")
    assert "Best and worst" not in bare


def test_shards_are_listed_and_stand_in_for_missing_files(save, photographs, tmp_path):
    rows = []
    for index, (name, split) in enumerate(zip(photographs, ["train"] * 4 + ["ref", "test"], strict=True)):
        row = {"task": "deblur", "split": split, "scale": 1, "group": name}
        for side in ("lq", "gt"):
            row[f"{side}_path"] = f"{side}/{index}.png"
            save(f"data/{side}/{index}.png", photographs[name])
        rows.append(row)
    done = shard(write(tmp_path / "m", rows), str(tmp_path / "s"), samples_per_shard=2)
    for path in (tmp_path / "data").rglob("*.png"):
        path.unlink()
    page = page_of(done.path, tmp_path)
    assert "file missing" not in page
    assert page.count("data:image/jpeg") == 6  # three pairs of the task, from the tars
    for name in ("train/deblur-00000.tar", "train/deblur-00001.tar", "ref/deblur-00000.tar", "test/deblur-00000.tar"):
        assert name in page


def test_examples_show_different_subtasks(save, photographs, tmp_path):
    save("data/x.png", photographs["china"])
    rows = [
        {"task": "deblur", "subtask": s, "group": g, "lq_path": "x.png", "gt_path": "x.png"}
        for s, g in [("motion", "a"), ("motion", "a"), ("motion", "b"), ("defocus", "a"), ("defocus", "c")]
    ]
    page = page_of(write(tmp_path / "m", rows), tmp_path)
    titles = re.findall(r'<figcaption title="x.png"><b>(\w+)</b>', page)
    assert len(titles) == 3
    assert set(titles) == {"motion", "defocus"}


def test_the_lineage_and_strange_names_are_shown_as_text(tmp_path):
    stages = [{**STAGE, "stage": "ingest", "params": {"layout": {"name": "<b>SOTS</b>"}, "none": None}}]
    stages.append({**STAGE, "stage": "filter", "params": {"min": {"unheard_of": 3}}})
    for stage in stages[:1]:
        stage["rows"] = {"rows": 1, "kept": 1, "dropped": 0, "error": 0}
    rows = [{"task": "</script><i>", "gt_path": "x", "gt_sha256": "1", "iqa.piqe": 1.0}]
    page = page_of(write(tmp_path / "m", rows, stages), tmp_path)
    assert "&lt;b&gt;SOTS&lt;/b&gt;" in page
    assert "</script><i>" not in page
    assert figures_of(page)["iqa.piqe"]["data"][0]["name"] == "</script><i>"


def test_the_same_manifest_gives_the_same_bytes_and_nothing_is_overwritten(clean, tmp_path):
    assert page_of(clean, tmp_path, "a") == page_of(clean, tmp_path, "b")
    path = report(clean)
    assert path == f"{clean}-report.html"
    with pytest.raises(UserError, match="exists already"):
        report(clean)
    with open(path, encoding="utf-8") as file:
        assert str(tmp_path) not in own_part(file.read())


def test_histograms_cover_all_values_and_near_thresholds():
    rng = np.random.default_rng(0)
    values = {"a": rng.normal(50, 5, 1000).tolist(), "b": [42.0]}
    near = charts.histogram(values, [charts.Threshold("min", 20.0)], {})
    assert sum(near["data"][0]["y"]) == 1000
    assert near["data"][1]["y"].count(1) == 1
    assert near["layout"]["xaxis"]["range"][0] < 20
    constant = charts.histogram({"a": [3.0, 3.0]}, [], {})
    assert sum(constant["data"][0]["y"]) == 2
    per_task = [charts.Threshold("worst", 45.0, "a"), charts.Threshold("worst", 46.0, "b")]
    lines = charts.histogram(values, per_task, {"a": "#111111", "b": "#222222"})["layout"]["shapes"]
    assert [line["line"]["color"] for line in lines] == ["#111111", "#222222"]
