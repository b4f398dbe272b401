"""Captions: what is done to a text, a tiny LLaVA through the code that loads real ones, an endpoint on loopback."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from curate import caption as stage
from curate import caption_text, vlm
from curate.cli import app
from curate.ingest import ingest
from curate.retry import retry
from curate.vlm import endpoint as endpoint_
from manifests.errors import UserError
from tests.curate import tiny_vlm
from tests.curate.test_shard import row_of, write

LONG = "The image features a red barn in a green field. The sky is clear and blue. A dog sleeps. It is 3.5 m long."


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        (LONG, {}, "A red barn in a green field. The sky is clear and blue."),
        (LONG, {"sentences": 0, "opening": 0}, LONG),
        (LONG, {"sentences": 1}, "A red barn in a green field."),
        ("A barn.", {}, "A barn."),
        ("", {}, ""),
        ("  \n ", {}, ""),
        ("One", {}, "One"),
        ("One two three", {}, "One two three"),
        ("It shows this. And that. And more.", {}, "It shows this. And that."),
        ("the image shows a barn at 3.5 m. it is old.", {}, "A barn at 3.5 m. it is old."),
        ("no end here at all today", {}, "At all today"),
    ],
)
def test_captions_are_trimmed_as_the_release_does_and_short_ones_survive(text, options, expected):
    assert caption_text.trim(text, **options) == expected


@given(st.text(max_size=60), st.integers(0, 5), st.integers(0, 3))
def test_no_caption_is_too_short(text, opening, sentences):
    out = caption_text.trim(text, opening=opening, sentences=sentences)
    assert bool(out) == bool("".join(one if one.isprintable() else " " for one in text).split())


def test_degenerate_captions_are_noticed():
    assert caption_text.problem(caption_text.trim(LONG)) is None
    assert caption_text.problem("") == "the caption is empty"
    assert caption_text.problem("...") == "the caption is empty"
    assert "English" in caption_text.problem("这是一张红色谷仓的照片")
    assert "repeats" in caption_text.problem("a barn and a barn and a barn and a barn and a barn and a barn")
    assert "repeats" in caption_text.problem("red " * 20)
    assert "repeats" in caption_text.problem("The image features a red barn. " * 4)
    assert "repeats" in caption_text.problem("dog dog dog dog dog")
    for other in (
        "Une grange rouge dans un champ avec des arbres et un ciel bleu.",
        "Eine rote Scheune auf einem Feld mit vielen Bäumen und einem blauen Himmel.",
        "Un granero rojo en el campo con los árboles y un cielo azul.",
    ):
        assert "English" in caption_text.problem(other)
    assert caption_text.problem("Red barn, green field") is None
    assert caption_text.problem("An image in which a man in Los Angeles sits on a bench.") is None
    assert caption_text.problem("A café in Zürich, with naïve paintings on white walls.") is None


@pytest.fixture
def pairs(photographs, save, tmp_path):
    """Six pairs, three distinct GTs; sizes differ."""
    rows = []
    pictures = list(photographs.values())
    for k in range(6):
        gt = save(f"data/gt{k % 3}.png", np.ascontiguousarray(pictures[k % 3][: 64 + 16 * (k % 2) * 0, : 80 - k % 3]))
        lq = save(f"data/lq{k}.png", np.ascontiguousarray(pictures[k % 3][:64, : 80 - k % 3] // (2 + k)))
        rows.append(row_of(tmp_path / "data", "denoise", lq, gt))
    return write(tmp_path / "m", rows, tmp_path / "data")


@pytest.fixture(scope="module")
def tiny_llava(tmp_path_factory):
    return tiny_vlm.save("llava", str(tmp_path_factory.mktemp("llava") / "tiny-llava"))


def test_a_model_that_cannot_be_had_is_one_line(tmp_path, pairs):
    with pytest.raises(UserError, match="needs a model: --model"):
        stage.caption(pairs, str(tmp_path / "out"), captioner="llava")
    with pytest.raises(UserError, match="choose gt, lq, both"):
        stage.caption(pairs, str(tmp_path / "out"), captioner="llava", task=stage.Task(vlm.Settings("x")), on="all")
    with pytest.raises(UserError, match="describes GTs only"):
        stage.caption(pairs, str(tmp_path / "out"), on="both")
    shown = CliRunner().invoke(app, ["caption", pairs, "--endpoint", "http://localhost:1/v1"])
    assert isinstance(shown.exception, UserError) and "needs --model" in str(shown.exception)


class Server:
    """An OpenAI-compatible endpoint; `answer(number, body)` gives status and text of each request."""

    def __init__(self, answer):
        self.bodies, lock = [], threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(handler):  # noqa: N805
                body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
                with lock:
                    self.bodies.append(body)
                    number = len(self.bodies)
                status, text = answer(number, body)
                content = json.dumps({"choices": [{"message": {"content": text}}]}).encode()
                handler.send_response(status)
                handler.send_header("Content-Length", str(len(content)))
                handler.end_headers()
                handler.wfile.write(content)

            def log_message(handler, *_):  # noqa: N805
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


def _task(server, **options):
    return stage.Task(vlm.Settings("some-llava", server.url, **options))


def test_captions_of_both_sides_with_what_made_them(pairs, tmp_path):
    with Server(lambda number, body: (200, LONG.replace("barn", f"barn {body['seed']}"))) as server:
        done = stage.caption(pairs, str(tmp_path / "out"), captioner="llava", task=_task(server), on="both")
        assert len(server.bodies) == 9  # three GTs and six LQs, each once
        body = server.bodies[0]
        (message,) = body["messages"]
        assert message["content"][0]["image_url"]["url"].startswith("data:image/png;base64,")
        assert message["content"][1]["text"] == stage.PROMPT and body["temperature"] == 0
    for row in done.table().to_pylist():
        assert row["caption"] == row["lq.caption"] == "A red barn 0 in a green field. The sky is clear and blue."
        assert (row["caption_model"], row["caption_seed"]) == ("some-llava", 0)
        assert row["caption_prompt"] == _task(server).fingerprint and len(row["caption_prompt"]) == 12
    assert done.stages[-1]["params"]["prompt"] == stage.PROMPT and server.url not in json.dumps(done.info)


def test_a_bad_caption_is_asked_for_once_more_and_then_an_error(pairs, tmp_path):
    def answer(number, body):
        size = len(body["messages"][0]["content"][0]["image_url"]["url"])
        sizes.add(size)
        if size == min(sizes) and body["seed"] == 0:
            return 200, "red " * 30
        return 200, "" if size == max(sizes) else LONG

    sizes = set()
    with Server(answer) as server:  # learn the sizes first
        stage.caption(pairs, str(tmp_path / "first"), captioner="llava", task=_task(server, parallel=1))
        server.bodies.clear()
        done = stage.caption(pairs, str(tmp_path / "out"), captioner="llava", task=_task(server, parallel=1))
        again = [body for body in server.bodies if body["seed"] == 1]
        assert len(again) == 2 and all(body["temperature"] == stage.HEAT for body in again)
    rows = done.table().to_pylist()
    seeds = sorted(row["caption_seed"] for row in rows if row["caption"])
    assert seeds == [0, 0, 1, 1] and done.rows["error"] == 2
    (said,) = {row["decisions"][0]["text"] for row in rows if row["status"] == "error"}
    assert said == "the caption is empty"


def test_an_endpoint_that_is_busy_is_asked_again_and_one_that_refuses_is_named(pairs, tmp_path, monkeypatch):
    monkeypatch.setattr(endpoint_, "PAUSE", 0.01)
    with Server(lambda number, body: (503 if number % 3 == 1 else 200, LONG)) as server:
        done = stage.caption(pairs, str(tmp_path / "out"), captioner="llava", task=_task(server))
        assert done.rows["kept"] == 6 and len(server.bodies) >= 4
    with Server(lambda number, body: (401, "no key")) as server:
        with pytest.raises(UserError, match="401"):
            stage.caption(pairs, str(tmp_path / "refused"), captioner="llava", task=_task(server))
        assert len(server.bodies) <= 8
    with pytest.raises(UserError, match="does not answer as it should"):
        stage.caption(pairs, str(tmp_path / "gone"), captioner="llava", task=_task(server))
    with Server(lambda number, body: (200, LONG)) as server:  # the same command goes on where it was
        again = stage.Task(vlm.Settings("some-llava", server.url))
        assert stage.caption(pairs, str(tmp_path / "gone"), captioner="llava", task=again).rows["kept"] == 6


def test_a_picture_that_the_endpoint_refuses_is_an_error_of_its_own(pairs, tmp_path, monkeypatch):
    monkeypatch.setattr(endpoint_, "PAUSE", 0.01)
    largest = []

    def answer(number, body):
        size = len(body["messages"][0]["content"][0]["image_url"]["url"])
        largest.append(size)
        return (400, "too large") if size == max(largest) and len(largest) > 3 else (200, LONG)

    with Server(answer) as server:
        stage.caption(pairs, str(tmp_path / "first"), captioner="llava", task=_task(server, parallel=1))
        done = stage.caption(pairs, str(tmp_path / "out"), captioner="llava", task=_task(server, parallel=1))
    assert done.rows == {"rows": 6, "kept": 4, "dropped": 0, "error": 2}
    said = {row["decisions"][0]["text"] for row in done.table().to_pylist() if row["status"] == "error"}
    assert len(said) == 1 and said.pop().startswith("the endpoint refuses it: 400")
    with (
        Server(lambda number, body: (400, "no such model")) as server,
        pytest.raises(UserError, match="refuses a plain picture as well"),
    ):
        stage.caption(pairs, str(tmp_path / "none"), captioner="llava", task=_task(server))


def test_an_answer_that_never_comes_is_an_error_of_its_picture(pairs, tmp_path, monkeypatch):
    import time

    monkeypatch.setattr(endpoint_, "PAUSE", 0.01)
    slow = []

    def answer(number, body):
        size = len(body["messages"][0]["content"][0]["image_url"]["url"])
        slow.append(size)
        if size == min(slow):
            time.sleep(1.0)
        return 200, LONG

    with Server(answer) as server:
        done = stage.caption(pairs, str(tmp_path / "out"), captioner="llava", task=_task(server, timeout=0.3))
    assert 0 < done.rows["error"] < 6
    assert "no answer within 0.3 s, 3 times" in str(done.table().column("decisions").to_pylist())


def test_a_server_that_is_away_stops_the_run_and_leaves_no_error_rows(pairs, tmp_path, monkeypatch):
    import time

    monkeypatch.setattr(endpoint_, "PAUSE", 0.01)

    def answer(number, body):
        if number > 2:
            time.sleep(0.5)
        return 200, LONG

    with Server(answer) as server, pytest.raises(UserError, match="does not answer as it should"):
        stage.caption(
            pairs, str(tmp_path / "out"), captioner="llava", task=_task(server, timeout=0.2, parallel=1), on="both"
        )
    with Server(lambda number, body: (200, LONG)) as server:
        again = stage.Task(vlm.Settings("some-llava", server.url))
        done = stage.caption(pairs, str(tmp_path / "out"), captioner="llava", task=again, on="both")
    assert done.rows["kept"] == 6


def test_a_refused_picture_that_is_all_there_is_is_an_error_and_no_end(pairs, tmp_path):
    def answer(number, body):
        return (200, LONG) if body["messages"][0]["content"][1]["text"] == "Describe this image." else (400, "no")

    with Server(answer) as server:
        with pytest.raises(UserError, match="3 of 3 rows failed, more than --max-errors 50%") as stopped:
            stage.caption(pairs, str(tmp_path / "out"), captioner="llava", task=_task(server))
        assert stopped.value.exit_code == 3 and not (tmp_path / "out" / "manifest.json").exists()
        done = stage.caption(pairs, str(tmp_path / "out"), captioner="llava", task=_task(server), max_errors="100%")
    assert done.rows["error"] == 6


def test_answers_in_parts_and_keys_and_addresses_that_cannot_be(pairs, tmp_path, monkeypatch):
    with Server(lambda number, body: (200, [{"type": "text", "text": LONG[:20]}, {"text": LONG[20:]}])) as server:
        done = stage.caption(pairs, str(tmp_path / "out"), captioner="llava", task=_task(server))
        assert done.table().column("caption")[0].as_py().startswith("A red barn in a green field.")
        monkeypatch.setenv("OPENAI_API_KEY", "a\nb")
        with pytest.raises(UserError, match="holds what no key can"):
            vlm.load(vlm.Settings("other", server.url))
    with pytest.raises(UserError, match="write it as http://"):
        vlm.load(vlm.Settings("other", "localhost:8000/v1"))
    monkeypatch.delenv("OPENAI_API_KEY")
    with Server(lambda number, body: (200, 5)) as server, pytest.raises(UserError, match="none of a chat endpoint"):
        stage.caption(pairs, str(tmp_path / "five"), captioner="llava", task=_task(server))


def test_a_busy_endpoint_says_how_long_to_wait():
    assert endpoint_._seconds("7") == 7 and endpoint_._seconds("1e9") == endpoint_._seconds(None) == 0
    assert endpoint_._seconds("86400") == endpoint_.LONGEST


def test_requests_are_spread_over_the_minute():
    import time

    limit = endpoint_._Limit(1200)
    began = time.monotonic()
    for _ in range(5):
        limit.wait()
    assert time.monotonic() - began >= 4 * 0.05 - 0.01


def test_the_command_captions_with_a_tiny_model(pairs, tiny_llava, tmp_path):
    out = str(tmp_path / "out")
    options = ["--model", tiny_llava, "--max-tokens", "6", "--opening", "0", "--sentences", "0", "-o", out]
    shown = CliRunner().invoke(app, ["caption", pairs, *options])
    assert shown.exit_code == 0, shown.output
    assert "denoise" in shown.output


def test_what_failed_is_tried_again_and_nothing_else(pairs, tmp_path):
    bad = []

    def answer(number, body):
        size = len(body["messages"][0]["content"][0]["image_url"]["url"])
        bad.append(size)
        return 200, "" if size == bad[0] else LONG

    with Server(answer) as server:
        first = stage.caption(pairs, str(tmp_path / "first"), captioner="llava", task=_task(server, parallel=1))
        assert first.rows["error"] == 2
    again = retry(first.path, str(tmp_path / "again"))
    assert again.rows["kept"] == 6
    with Server(lambda number, body: (200, LONG)) as server:
        done = stage.caption(again.path, str(tmp_path / "done"), captioner="llava", task=_task(server))
        assert len(server.bodies) == 1 and all(done.table().column("caption").to_pylist())
        other = stage.Task(vlm.Settings("some-llava", server.url), seed=5)
        stage.caption(done.path, str(tmp_path / "other"), captioner="llava", task=other)
        assert len(server.bodies) == 1 + 3  # another seed is another question


def test_a_side_that_no_row_has_is_one_line(photographs, save, tmp_path):
    save("d/a.png", photographs["coffee"])
    clean = ingest(str(tmp_path / "d"), str(tmp_path / "m"), gt="{id}.png", task="clean").path
    with pytest.raises(UserError, match="no kept row has an image of lq"):
        stage.caption(
            clean, str(tmp_path / "o"), captioner="llava", task=stage.Task(vlm.Settings("x", "http://x")), on="lq"
        )
