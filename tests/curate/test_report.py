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
from curate.doctor import diagnose
from curate.filter import filter as filter_
from curate.ingest import ingest
from curate.report import report
from curate.shard import shard
from manifests import schema, table
from manifests.errors import UserError
from tests.manifests.test_pages import CHROMIUM, check_page

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
    figures = json.loads(re.search(r'id="figures">(.*?)</script>', page).group(1))
    ids = re.findall(r'<h3>([\w.]+) <span>[^<]*</span></h3><div class="plot" id="(chart-\d+)"', page)
    assert len(ids) == len(figures)
    return {column: figures[name] for column, name in ids}


def embedded_in(page):
    """The images of a page, in the order of their numbers."""
    uris = json.loads(re.search(r'id="embedded">(.*?)</script>', page).group(1))
    assert all(uri.startswith("data:image/jpeg;base64,") for uri in uris)
    return [Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) for uri in uris]


def shown_in(part):
    """Numbers of the images that a part of a page shows."""
    return [int(number) for number in re.findall(r'data-image="(\d+)"', part)]


def own_part(page):
    """The page without scripts; it is checked to be well-formed and to load nothing."""
    check_page(page)
    return re.sub(r"<script>.*?</script>", "", page, flags=re.S)


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
    worst = re.search(r"<h3>iqa.contrast .*?</figure>", page, re.S).group(0)
    assert f'<b>{contrast[0]:.3g}</b> <span class="dropped">dropped</span>' in worst
    sharp = re.search(r"<h3>iqa.sharpness .*?(<div class=\"soft\">.*?)</section>", page, re.S).group(1)
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
    assert len(page) - len(own) > 1_000_000, "plotly.js stands in the page"
    pictures = embedded_in(page)
    assert set(shown_in(own)) == set(range(len(pictures)))
    for picture in pictures:
        picture.load()
        assert (picture.format, max(picture.size)) == ("JPEG", 256)
    assert len(pictures) == 6, "each photograph stands once in the page, however many scores show it"
    per_score = [len(re.findall("<figure", part)) for part in own.split("<h3>")]
    assert max(per_score) <= 8
    assert len(page) < 6_000_000


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
    assert len(embedded_in(page)) == 1
    assert list(figures_of(page)) == ["iqa.piqe"]
    assert sum(figures_of(page)["iqa.piqe"]["data"][0]["y"]) == 2


def test_a_manifest_without_rows_or_scores(tmp_path):
    page = page_of(write(tmp_path / "empty", []), tmp_path)
    assert "The manifest has no rows." in page
    assert len(page) < 50_000, "plotly.js is left out where nothing is drawn"
    bare = page_of(write(tmp_path / "bare", [{"gt_path": "x.png"}]), tmp_path, "bare")
    assert "Scores" not in own_part(bare)


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
    assert len(embedded_in(page)) == 6  # three pairs of the task, from the tars
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
    lines = charts.histogram(values, per_task, {"a": "var(--c1)", "b": "var(--c2)"}, "dB")["layout"]
    assert [line["line"]["color"] for line in lines["shapes"]] == ["var(--c1)", "var(--c2)"]
    assert (lines["xaxis"]["title"]["text"], lines["yaxis"]["title"]["text"]) == ("dB", "ground truths")


def pair_rows(save, photographs):
    """Pairs of every state; the file of one has markup in its name."""
    rows = []
    facts = {
        "ok": {"pair.ncc": 0.8, "pair.shift_y": 0.0, "pair.shift_x": 0.0},
        "other_scene": {"pair.ncc": 0.02, "pair.distance": 31},
        "shifted": {"pair.ncc": 0.5, "pair.shift_y": 12.0, "pair.shift_x": -7.0},
        "identical": {"pair.ncc": 1.0, "pair.identical": True},
        "odd": {"pair.ncc": 0.1},
    }
    pixels = list(photographs.values())
    for number, (state, facts_of_state) in enumerate(facts.items()):
        name = "<script>alert(1)</script> & 'x'.png" if state == "shifted" else f"{state}.png"
        gt, lq = pixels[number % 6], pixels[(number + (state == "other_scene")) % 6]
        save(f"data/lq/{name.replace('/', '_')}", lq)
        save(f"data/gt/{state}.png", gt)
        row = {"task": "dehaze", "lq_path": f"lq/{name.replace('/', '_')}", "gt_path": f"gt/{state}.png"}
        row |= {"pair.state": state, "width": gt.shape[1], "height": gt.shape[0], **facts_of_state}
        if state in ("other_scene", "identical"):
            row["decisions"] = [schema.decision("pairs", "scene", "drop", "shows another scene")]
        rows.append(row)
    return rows


def test_suspect_pairs_are_shown_by_state_with_three_views(save, photographs, tmp_path):
    page = page_of(write(tmp_path / "m", pair_rows(save, photographs)), tmp_path)
    own = own_part(page)
    suspect = own[own.index('id="flagged"') : own.index('id="pairs"')]
    states = re.findall(r"<code>(\w+)</code>, 1 pair, (\d) not kept", suspect)
    assert states == [("other_scene", "1"), ("identical", "1"), ("shifted", "0"), ("odd", "0")]
    for view in ("blink", "difference", "overlay"):
        assert suspect.count(f'data-open="{view}"') == 4
    assert "shift +12.0 down, -7.0 right, pixels" in suspect and "hashes differ in 31 of 64 bits" in suspect
    assert "<script>alert" not in own and "&lt;script&gt;alert(1)&lt;_script&gt; &amp; &#39;x&#39;.png" in suspect
    assert suspect.count('data-label="LQ"') == suspect.count('data-label="GT"') == 4
    assert 'id="flagged"' not in page_of(write(tmp_path / "n", [{"pair.state": "ok", "gt_path": "x"}]), tmp_path, "n")


def test_the_doctor_speaks_first(save, photographs, tmp_path):
    manifest = write(tmp_path / "m", pair_rows(save, photographs))
    page = own_part(page_of(manifest, tmp_path))
    findings = diagnose(manifest)
    assert findings and page.index('id="findings"') < page.index('id="content"')
    for finding in findings[:8]:
        assert html.escape(f"{finding.count:,} {finding.text}", quote=False) in page
        assert f'<li class="{finding.severity}">' in page


def test_a_shifted_pair_that_is_large_comes_with_a_square_at_full_resolution(save, photographs, tmp_path):
    large = np.tile(photographs["china"], (2, 2, 1))
    save("data/gt.png", large)
    save("data/lq.png", np.ascontiguousarray(large[::2, ::2]))
    shifted = {"pair.state": "shifted", "lq_path": "lq.png", "gt_path": "gt.png", "task": "sr", "scale": 2}
    page = page_of(write(tmp_path / "m", [shifted | {"pair.shift_y": 3.0, "pair.shift_x": 0.0}]), tmp_path)
    sizes = [picture.size for picture in embedded_in(page)]
    assert sizes[2:] == [(128, 128), (256, 256)] and max(sizes[0]) == max(sizes[1]) == 352
    assert page.count('data-group="detail"') == 2


def test_a_page_of_many_scores_and_tasks_keeps_its_size(save, photographs, tmp_path, monkeypatch):
    from curate import thumbnails

    monkeypatch.setattr(thumbnails, "BUDGET", 60_000)
    rng = np.random.default_rng(0)
    rows = []
    for number in range(40):
        save(f"data/{number}.png", rng.integers(0, 255, (300, 300, 3), np.uint8))
        rows.append({"gt_path": f"{number}.png", "gt_sha256": f"{number:02}"})
        rows[-1] |= {f"iqa.s{score}": float(rng.normal()) for score in range(6)}
    page = page_of(write(tmp_path / "m", rows), tmp_path)
    sizes = {picture.size[0] for picture in embedded_in(page)}
    assert sizes == {256, thumbnails.TIGHT}


@pytest.mark.slow
def test_a_data_report_in_a_browser_is_short_and_fits_every_width(clean, save, photographs, tmp_path):
    if CHROMIUM is None:
        pytest.skip("needs chromium")
    from playwright.sync_api import sync_playwright

    done = filter_(clean, str(tmp_path / "f"), maximum={"haze": 0.2})
    paths = [report(done.path), report(write(tmp_path / "m", pair_rows(save, photographs)))]
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        page, errors = browser.new_page(), []
        page.set_default_timeout(120_000)  # a machine may be busy
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda text: errors.append(text.text) if text.type == "error" else None)
        for path in paths:
            page.goto(f"file://{path}")
            for width in (360, 800, 1280):
                page.set_viewport_size({"width": width, "height": 900})
                assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.evaluate("document.documentElement.scrollHeight") < 5000
        page.click("[data-open=difference] >> nth=0")
        assert page.eval_on_selector_all("#viewer-stage img", "all => all.every(one => one.naturalWidth > 0)")
        assert not errors
        browser.close()
