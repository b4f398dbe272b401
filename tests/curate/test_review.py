"""The review page in a real browser, its server, and what becomes of verdicts."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from curate import review as stage
from curate.cli import app as cli
from curate.review.app import build
from curate.review.rows import Query, Rows
from curate.shard import shard
from manifests import images, schema, table
from manifests.errors import UserError
from tests.curate.test_shard import row_of, write

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
SCREENSHOTS = os.environ.get("EQUIMIX_SCREENSHOTS")  # a folder to keep them in, to be looked at


@pytest.fixture
def pairs(photographs, save, tmp_path):
    """Eight pairs of two tasks with scores; sr has an LQ of half the size, the fifth was dropped, one has no LQ."""
    rows = []
    for k, pixels in enumerate(list(photographs.values()) * 3):
        if k == 8:
            break
        gt_pixels = np.ascontiguousarray(pixels[:240, :320])
        task = ("denoise", "sr")[k % 2]
        noise = np.random.default_rng(k).normal(0, 25, gt_pixels.shape)
        lq_pixels = gt_pixels[::2, ::2] if task == "sr" else np.clip(gt_pixels + noise, 0, 255).astype(np.uint8)
        gt, lq = save(f"data/gt{k}.png", gt_pixels), save(f"data/lq{k}.jpg", np.ascontiguousarray(lq_pixels))
        row = row_of(tmp_path / "data", task, lq, gt) | {"iqa.musiq": 40.0 + k, "caption": f"Picture {k}."}
        row |= {"scale": 2 if task == "sr" else 1, "split": "train"}
        row |= {"pair.state": "shifted" if k == 5 else "ok", "pair.ncc": 0.9 - k / 100, "pair.identical": False}
        if k == 4:
            row["decisions"] = [schema.decision("filter", "min:musiq", "drop", "musiq 44 is below 45")]
        rows.append(row)
    return write(tmp_path / "m", rows, tmp_path / "data")


def _client(pairs, tmp_path, **options):
    return TestClient(
        build(Rows(pairs), stage.Verdicts(str(tmp_path / "v.jsonl")), **options), base_url="http://localhost"
    )


def _ids(client, **query):
    return np.frombuffer(client.get("/api/rows", params=query).content, "<i4").tolist()


def test_rows_are_found_by_task_reason_and_score(pairs, tmp_path):
    client = _client(pairs, tmp_path)
    facts = client.get("/api/facts").json()
    assert facts["rows"] == 8 and facts["tasks"] == ["denoise", "sr"] and facts["reasons"] == ["filter/min:musiq"]
    assert facts["scores"]["iqa.musiq"] == [40.0, 47.0] and set(facts["scores"]) == {"iqa.musiq", "pair.ncc"}
    assert facts["pairs"] == ["ok", "shifted"] and _ids(client, pairs="shifted") == [5]
    assert _ids(client, pairs="swapped") == [] and _ids(client, column="pair.ncc")[0] == 7
    assert _ids(client) == list(range(8)) and _ids(client, task="sr") == [1, 3, 5, 7]
    assert _ids(client, reason="filter/min:musiq") == [4] == _ids(client, status="dropped")
    assert _ids(client, column="iqa.musiq", low="42", high="44", descending="1") == [4, 3, 2]
    assert _ids(client, column="iqa.musiq", near="44.4")[:3] == [4, 5, 3]
    labels = client.get("/api/labels", params={"rows": "4,0,99", "column": "iqa.musiq"}).json()
    assert [(one["row"], one["value"], one["status"]) for one in labels] == [(4, 44.0, "dropped"), (0, 40.0, "kept")]
    detail = client.get("/api/row/5").json()
    assert (
        detail["scale"] == 2 and detail["texts"] == {"caption": "Picture 5."} and detail["scores"] == {"iqa.musiq": 45}
    )
    assert detail["pair"] == {"pair.ncc": pytest.approx(0.85), "pair.identical": "false", "pair.state": "shifted"}
    assert client.get("/api/row/4").json()["reasons"] == ["filter: musiq 44 is below 45"]
    assert client.get("/api/row/8").status_code == 404


def test_images_come_as_they_are_or_as_png_also_from_shards(pairs, tmp_path):
    client = _client(pairs, tmp_path)
    gt, lq = client.get("/image/0/gt"), client.get("/image/0/lq")
    assert (gt.headers["content-type"], lq.headers["content-type"]) == ("image/png", "image/jpeg")
    assert gt.content == (tmp_path / "data" / "gt0.png").read_bytes()
    assert client.get("/image/0/other").status_code == 404
    shards = shard(pairs, str(tmp_path / "s"))
    assert _client(shards.path, tmp_path).get("/image/1/lq").content == client.get("/image/1/lq").content
    deep = images.encode_png(np.full((9, 9, 3), 40000, np.uint16))
    (tmp_path / "data" / "gt0.png").write_bytes(deep)
    assert images.decode(client.get("/image/0/gt").content).pixels.dtype == np.uint8
    (tmp_path / "data" / "gt0.png").write_bytes(b"nothing")
    assert client.get("/image/0/gt").status_code == 422
    (tmp_path / "data" / "gt0.png").unlink()
    assert client.get("/image/0/gt").status_code == 422


def test_nobody_else_gets_in(pairs, tmp_path):
    client = _client(pairs, tmp_path)
    body = {"row": 0, "verdict": "keep", "reviewer": "a"}
    assert client.get("/", headers={"host": "evil.example"}).status_code == 403  # a name that was bound to 127.0.0.1
    assert client.post("/api/verdict", json=body, headers={"origin": "http://evil.example"}).status_code == 403
    assert client.post("/api/verdict", json=body, headers={"origin": "http://localhost"}).status_code == 200
    for wrong in ({"row": 99, "verdict": "keep", "reviewer": "a"}, {"row": 0, "verdict": "eat", "reviewer": "a"},
                  {"row": 0, "verdict": "keep", "reviewer": " "}, {}):  # fmt: skip
        assert client.post("/api/verdict", json=wrong).status_code == 400
    other = _client(pairs, tmp_path, token="secret")
    assert other.get("/").status_code == 403 and other.get("/?token=wrong").status_code == 403
    assert other.get("/api/facts").status_code == 403
    assert other.get("/?token=secret").status_code == 200 and other.get("/api/facts").status_code == 200


def test_two_people_agree_and_disagree(pairs, tmp_path):
    path = str(tmp_path / "v.jsonl")
    rows = Rows(pairs)
    ids = [rows.pair_id(k) for k in range(8)]
    one, other = stage.Verdicts(path), stage.Verdicts(path)
    for row, mine, theirs in ((0, "drop", "drop"), (1, "keep", "drop"), (4, "keep", "skip"), (5, "drop", None)):
        one.add(ids[row], mine, "ann")
        if theirs:
            other.add(ids[row], theirs, "bob")
    one.add(ids[5], "undo", "ann")
    other.refresh()
    one.refresh()
    assert one.counts() == other.counts() == {"keep": 1, "drop": 1, "skip": 0, "disputed": 1}
    assert one.disputed() == [ids[1]] and stage.Verdicts(path).latest == one.latest
    client = TestClient(build(rows, one), base_url="http://localhost")
    assert _ids(client, state="disputed") == [1] and _ids(client, state="open") == [2, 3, 5, 6, 7]
    done, disputed = stage.apply(pairs, [path], str(tmp_path / "out"))
    status = [row["status"] for row in done.table().to_pylist()]
    assert disputed == 1 and status == ["dropped", *["kept"] * 7]  # the fifth, which a filter had dropped, is back
    assert done.table().to_pylist()[0]["decisions"][0]["text"] == "dropped by ann, bob"
    shown = CliRunner().invoke(cli, ["review", pairs, "--apply", "--verdicts", path, "-o", str(tmp_path / "again")])
    assert shown.exit_code == 0 and "1 pairs are disputed" in shown.output
    with pytest.raises(UserError, match="no such file of verdicts"):
        stage.apply(pairs, ["absent"], str(tmp_path / "x"))
    with open(path, "a") as file:
        file.write("nonsense\n")
    with pytest.raises(UserError, match="is no verdict"):
        stage.Verdicts(path)


def test_a_torn_line_and_a_foreign_verdict_are_said(pairs, tmp_path, capsys):
    path = tmp_path / "v.jsonl"
    ids = [Rows(pairs).pair_id(k) for k in range(8)]
    verdicts = stage.Verdicts(str(path))
    verdicts.add(ids[0], "drop", "ann")
    with path.open("a") as file:
        file.write(json.dumps({"pair_id": ids[1], "verdict": "drop", "reviewer": "ann"}))  # no end: torn, or by hand
    with pytest.raises(UserError, match="its last line has no end"):
        stage.apply(pairs, [str(path)], str(tmp_path / "x"))
    verdicts.add(ids[2], "drop", "ann")  # is not glued to it
    verdicts.add("f" * 32, "drop", "ann")
    done, _ = stage.apply(pairs, [str(path)], str(tmp_path / "out"))
    assert [row["status"] for row in done.table().to_pylist()][:4] == ["dropped", "dropped", "dropped", "kept"]
    assert "1 pairs with a verdict are not in" in capsys.readouterr().err
    with path.open("a") as file:
        file.write(json.dumps({"pair_id": ids[1], "verdict": "dorp", "reviewer": "ann"}) + "\n")
    with pytest.raises(UserError, match=r"line 5 is no verdict .'dorp' is none of"):
        stage.Verdicts(str(path))


def test_one_name_in_two_files_may_be_two_people(pairs, tmp_path):
    ids, paths = [Rows(pairs).pair_id(k) for k in range(8)], [str(tmp_path / name) for name in ("a", "b")]
    for path, verdict in zip(paths, ("keep", "drop"), strict=True):
        stage.Verdicts(path).add(ids[0], verdict, "me")
        stage.Verdicts(path).add(ids[1], "drop", "me")
    for number, order in enumerate((paths, paths[::-1])):
        done, disputed = stage.apply(pairs, order, str(tmp_path / f"out{number}"))
        assert disputed == 1 and [row["status"] for row in done.table().to_pylist()][:2] == ["kept", "dropped"]


def test_requests_that_mean_nothing_are_refused(pairs, tmp_path):
    client = _client(pairs, tmp_path)
    assert client.get("/api/rows", params={"low": "abc"}).status_code == 400
    assert client.get("/api/labels", params={"rows": "abc,1"}).json()[0]["row"] == 1
    for row in ("Infinity", "1.7", "true", "[]"):
        body = f'{{"row": {row}, "verdict": "keep", "reviewer": "a"}}'
        assert client.post("/api/verdict", content=body).status_code == 400
    assert client.post("/api/verdict", json={"row": 0, "verdict": "keep", "reviewer": None}).status_code == 400
    assert not (tmp_path / "v.jsonl").exists()
    assert _client(pairs, tmp_path, token="secret").get("/?token=é").status_code == 403
    (tmp_path / "v.jsonl").write_text("nonsense\n")
    answer = client.get("/api/facts")
    assert answer.status_code == 500 and "line 1 is no verdict" in answer.text
    shown = CliRunner().invoke(cli, ["review", pairs, "--verdicts", str(tmp_path / "no" / "v.jsonl"), "--port", "0"])
    assert "verdicts cannot be written there" in str(shown.exception)


def _say(path, name, count):
    verdicts = stage.Verdicts(path)
    for number in range(count):
        verdicts.add(f"{number:032x}", "keep", name)


def test_lines_of_several_people_stay_whole(tmp_path):
    path = str(tmp_path / "v.jsonl")
    people = [multiprocessing.get_context("spawn").Process(target=_say, args=(path, f"p{k}", 60)) for k in range(3)]
    for one in people:
        one.start()
    for one in people:
        one.join()
    assert len(Path(path).read_text().splitlines()) == 180
    assert all(len(said) == 3 for said in stage.Verdicts(path).latest.values())


def _serve(*arguments, cwd):
    command = [sys.executable, "-c", "from curate.cli import main; main()", "review", *arguments, "--port", "0"]
    process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, text=True)
    process.stdout.readline()
    return process, process.stdout.readline().strip()


@pytest.fixture
def browser():
    if CHROMIUM is None:
        pytest.skip("needs chromium")
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=[*flags, "--disable-component-update"])
        yield found
        found.close()


def _three_views(page):
    """Blink by turns, difference amplified, overlay by an edge; each key again is side by side."""
    visible = "all => all.map(pane => getComputedStyle(pane).visibility === 'visible')"
    page.keyboard.press("b")
    first = page.eval_on_selector_all(".pane", visible)
    assert sorted(first) == [False, True]
    other = json.dumps(first[::-1])
    page.wait_for_function(
        f"JSON.stringify(({visible})([...document.querySelectorAll('.pane')])) === '{other}'".replace(", ", ",")
    )
    page.keyboard.press("Space")
    still = page.eval_on_selector_all(".pane", visible)
    page.wait_for_timeout(900)
    assert page.eval_on_selector_all(".pane", visible) == still and page.text_content("#pause") == "Play"
    page.keyboard.press("x")
    assert page.eval_on_selector("#panes", "one => one.style.filter") == "brightness(4)"
    assert page.eval_on_selector(".pane[data-side=gt]", "one => getComputedStyle(one).mixBlendMode") == "difference"
    page.fill("#gain input", "8")
    assert page.eval_on_selector("#panes", "one => one.style.filter") == "brightness(8)"
    page.keyboard.press("o")
    assert page.eval_on_selector(".pane[data-side=gt]", "one => one.style.clipPath") == "inset(0px 0px 0px 50%)"
    boxes = page.eval_on_selector_all(".pane img", "all => all.map(one => one.getBoundingClientRect().left)")
    assert boxes[0] == pytest.approx(boxes[1], abs=0.1)
    page.keyboard.press("o")
    assert page.eval_on_selector("#panes", "one => one.className") == ""


def _fits(page, width, height):
    """Every button is in sight, and nothing is wider than the window."""
    page.set_viewport_size({"width": width, "height": height})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    outside = """all => all.filter(one => one.offsetParent).filter(one => { const box = one.getBoundingClientRect();
        return box.left < 0 || box.top < 0 || box.right > innerWidth || box.bottom > innerHeight;
    }).map(one => one.textContent)"""
    assert page.eval_on_selector_all("#buttons button", outside) == []
    assert page.eval_on_selector("#panes", "one => one.clientHeight") >= 150


@pytest.mark.slow
def test_a_person_reviews_in_a_browser_and_a_kill_loses_nothing(pairs, tmp_path, browser):
    process, address = _serve(pairs, "--column", "iqa.musiq", "--near", "44.4", cwd=tmp_path)
    verdicts = Path(f"{pairs}-review.jsonl")
    try:
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(120_000)  # a machine may be busy
        errors = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        page.wait_for_selector(".row.here")
        page.fill("#reviewer", "ann")
        page.locator("#reviewer").blur()
        page.wait_for_function("document.querySelector('.pane[data-side=gt] img').naturalWidth === 320")
        assert page.text_content("#name") == "gt4.png" and "below 45" in page.text_content("#reasons")
        assert "Picture 4." in page.text_content("#texts")
        thumbnails = "[...document.querySelectorAll('.row img')].filter(one => one.naturalWidth === 156).length"
        page.wait_for_function(f"{thumbnails} === 8")
        if SCREENSHOTS:
            page.wait_for_function("document.querySelector('.pane[data-side=lq] img').complete")
            page.screenshot(path=f"{SCREENSHOTS}/review.png")
        _three_views(page)
        for width, height in ((800, 600), (360, 700)):
            _fits(page, width, height)
        page.set_viewport_size({"width": 1280, "height": 800})
        page.keyboard.press("1")
        page.keyboard.press("k")
        page.wait_for_function("document.querySelector('#name').textContent === 'gt5.png'")
        assert "pair.state shifted" in page.text_content("#pair")
        page.wait_for_function("document.querySelector('.pane[data-side=lq] img').naturalWidth === 160")
        scale = "s => +s.style.transform.match(/scale\\((.*)\\)/)[1]"
        zooms = [page.eval_on_selector(f".pane[data-side={side}] img", scale) for side in ("lq", "gt")]
        assert zooms == [2.0, 1.0]  # super-resolution's input is shown at the GT's size
        page.mouse.move(900, 300)
        page.mouse.wheel(0, -400)
        page.wait_for_function(
            "+document.querySelector('.pane[data-side=gt] img').style.transform.match(/scale\\((.*)\\)/)[1] > 2"
        )
        lq, gt = (
            page.eval_on_selector(f".pane[data-side={side}] img", "s => s.style.transform") for side in ("lq", "gt")
        )
        assert lq.split(" scale")[0] == gt.split(" scale")[0]  # both panes show the same place
        page.keyboard.press("d")
        page.wait_for_function("document.querySelector('#name').textContent === 'gt3.png'")
        page.keyboard.press("s")
        page.wait_for_function("document.querySelector('#name').textContent !== 'gt3.png'")
        page.keyboard.press("u")
        page.wait_for_function("document.querySelector('#name').textContent === 'gt3.png'")
        said = [json.loads(line) for line in verdicts.read_text().splitlines()]
        assert [(one["verdict"], one["reviewer"]) for one in said] == [
            ("keep", "ann"), ("drop", "ann"), ("skip", "ann"), ("undo", "ann"),
        ]  # fmt: skip
        page.select_option("#task", "sr")
        page.wait_for_function("document.querySelectorAll('.row').length === 4")
        page.select_option("#state", "open")
        page.wait_for_function("document.querySelectorAll('.row').length === 3")
        assert not errors
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    again = stage.Verdicts(str(verdicts))
    assert again.counts() == {"keep": 1, "drop": 1, "skip": 0, "disputed": 0}


@pytest.mark.slow
def test_more_rows_scroll_than_a_browser_has_pixels_for(pairs, tmp_path, browser):
    whole = table.read(pairs)
    rows = whole.table().slice(0, 8)
    many = pa.concat_tables([rows] * 25_000)
    many = schema.set_column(many, "pair_id", [f"{k:032x}" for k in range(200_000)])
    many = schema.set_column(many, "iqa.musiq", np.random.default_rng(0).uniform(0, 100, 200_000), pa.float64())
    path = str(tmp_path / "many")
    table.write(path, many.drop_columns(["status"]), roots=whole.roots, stages=whole.stages)
    process, address = _serve(path, "--column", "iqa.musiq", cwd=tmp_path)
    try:
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(address)
        page.wait_for_selector(".row.here small")
        assert page.evaluate("document.querySelector('#rows').clientHeight") == 8_000_000 < 200_000 * 58
        page.evaluate(
            """async () => {
                const list = document.querySelector('#list');
                for (let k = 0; k < 60; k++) {
                    list.scrollTop += 5000;
                    await new Promise(requestAnimationFrame);
                }
            }"""
        )
        assert len(page.query_selector_all(".row")) < 60  # what is not seen is not there
        shown = (
            "[...document.querySelectorAll('.row')].map(one => one.getBoundingClientRect().top).sort((a, b) => a - b)"
        )
        tops = page.evaluate(shown)
        assert np.allclose(np.diff(tops), 58, atol=0.1)
        page.wait_for_function("[...document.querySelectorAll('.row img')].some(one => one.naturalWidth > 0)")
        page.keyboard.press("End")
        page.wait_for_function("[...document.querySelectorAll('.row.here small')].length === 1")
        value = float(page.text_content(".row.here .value"))
        assert value == pytest.approx(100, abs=0.1)
        page.keyboard.press("ArrowUp")
        page.keyboard.press("ArrowDown")
        box = page.evaluate(
            "(() => { const a = document.querySelector('.row.here').getBoundingClientRect(),"
            " b = document.querySelector('#list').getBoundingClientRect();"
            " return [a.top - b.top, b.bottom - a.bottom] })()"
        )
        assert min(box) > -2  # the row that is meant is in sight
    finally:
        process.kill()
        process.wait()


def test_a_port_in_use_and_an_unknown_score_are_one_line(pairs, tmp_path):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        shown = CliRunner().invoke(cli, ["review", pairs, "--port", str(taken.getsockname()[1])])
    assert isinstance(shown.exception, UserError) and "take another --port" in str(shown.exception)
    shown = CliRunner().invoke(cli, ["review", pairs, "--column", "iqa.piqe"])
    assert "the manifest has iqa.musiq" in str(shown.exception)
    assert Rows(pairs).find(Query(task="nothing")).tolist() == []
