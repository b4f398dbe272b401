"""The judge: what answers are taken for, and the three ways to an answer."""

import json
import os

import numpy as np
import pytest
from typer.testing import CliRunner

from curate import judge as stage
from curate import vlm
from curate.cli import app
from curate.filter import filter as run_filter
from manifests.errors import UserError
from tests.curate.test_caption import Server
from tests.curate.test_shard import row_of, write


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Noise", "noise"),
        ("There is no visible blur or noise.", None),
        ("no signs of blur", None),
        ("I don't see any blur.", None),
        ("blur isn’t present", None),
        ("neither blur nor noise", None),
        ("No noise, strong blur", "blur"),
        ("No blur, noise or artifacts are visible", None),
        ("The image is blurry, no noise", "blur"),
        ("not only blur but also noise", "noise, blur"),
        ("dark background, but the image is clean", None),
        ("there is blur, and noise is not visible", "blur"),
        ("It isn't sharp: it is blurred", "blur"),
        ("It is dark", "brightness too low"),
        ("Lack of contrast", "contrast too low"),
        ("The image is blurry and has JPEG artifacts.", "blur, compression"),
        ("Out of focus.", "blur"),
        ("pixelate", "pixelation"),
        ("Color quantization", "color quantization"),
        ("Over-sharpening", "oversharpening"),
        ("Saturation too high", "saturation too high"),
        ("Low contrast", "contrast too low"),
        ("Contrast strengthen", "contrast too high"),
        ("Brighten", "brightness too high"),
        ("The picture is too dark.", "brightness too low"),
        ("Underexposed, noisy", "noise, brightness too low"),
        ("None", "none"),
        ("There are no apparent distortions.", "none"),
        ("no noise, but slight blur", "blur"),
        ("none, but a lot of noise", None),
        ("No noise.", None),
        ("I cannot tell.", None),
        ("", None),
        ("quality quality quality", None),
    ],
)
def test_what_an_answer_about_distortions_is_taken_for(answer, expected):
    assert stage.distortions(answer) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("It isn't really that good", None), ("hardly good", None), ("can't be called good", None),
        ("isn’t good", None),
        ("The quality is excellent, no noise", "excellent"), ("good, not excellent", "good"), ("not bad", None),
        ("Good", "good"), ("excellent.", "excellent"), ("It is of very poor quality.", "poor"), ("not good", None),
        ("good or bad", None), ("badly", None), ("", None), ("Fair", "fair"),
    ],
)  # fmt: skip
def test_what_an_answer_about_quality_is_taken_for(answer, expected):
    assert stage.quality(answer) == expected


@pytest.fixture
def pairs(photographs, save, tmp_path):
    rows = []
    for k, pixels in enumerate(list(photographs.values())[:4]):
        gt = save(f"data/gt{k}.png", np.ascontiguousarray(pixels[:48, :64]))
        rows.append(row_of(tmp_path / "data", "denoise", gt, gt))
    rows.append(rows[0] | {"pair_id": rows[0]["pair_id"][::-1], "task": "sr"})  # a GT that serves twice
    return write(tmp_path / "m", rows, tmp_path / "data")


def _of(body):
    return "quality" if "quality" in body["messages"][0]["content"][1]["text"] else "distortion"


def test_an_endpoint_judges_every_gt_once(pairs, tmp_path):
    def answer(number, body):
        return 200, "Fair" if _of(body) == "quality" else "Blur" if number % 3 else "hm hm hm"

    with Server(answer) as server:
        settings = vlm.Settings("some-vlm", server.url, parallel=1)
        done = stage.judge(pairs, str(tmp_path / "out"), settings=settings)
        assert len(server.bodies) == 8
    rows = done.table().to_pylist()
    assert done.rows["kept"] == 5  # what cannot be read from an answer is no verdict
    assert {row["judge.state"] for row in rows} == {"ok", "parse_error"}
    for row in rows:
        assert (row["judge.distortion"] == "blur") == (row["judge.state"] == "ok") and row["judge.quality"] == "fair"
        assert row["judge.model"] == "some-vlm" and row["judge.prompt"] == stage.ASKED
        assert json.loads(row["judge.text"])["quality"] == "Fair"
    assert rows[0]["judge.text"] == rows[4]["judge.text"]
    policy = tmp_path / "policy.yaml"
    policy.write_text("keep: judge.distortion == blur and judge.quality in [fair, good]")
    kept = run_filter(done.path, str(tmp_path / "kept"), policy=str(policy)).rows
    assert kept["kept"] == sum(row["judge.state"] == "ok" for row in rows) and kept["error"] == 5 - kept["kept"]


def test_depictqa_answers_from_an_environment_of_its_own(pairs, tmp_path):
    tasks_path, answers_path = str(tmp_path / "tasks.json"), tmp_path / "answers.jsonl"
    shown = CliRunner().invoke(app, ["judge", pairs, "--export", tasks_path])
    assert shown.exit_code == 0 and "8 questions" in shown.output
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    assert {task["task_type"] for task in tasks} == {"quality_single_A_noref"} and tasks[0]["image_ref"] is None
    assert all(os.path.isabs(task["image_A"]) and os.path.isfile(task["image_A"]) for task in tasks)
    lines = [{"id": task["id"], "text": "Noise" if task["id"].endswith("distortion") else "Bad", "prob": None}
             for task in tasks[:6]]  # fmt: skip
    answers_path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    done = stage.judge(pairs, str(tmp_path / "out"), answers=str(answers_path))
    rows = done.table().to_pylist()
    assert [row["judge.quality"] for row in rows] == ["bad", "bad", "bad", None, "bad"]
    assert rows[0]["judge.distortion"] == "noise" and rows[0]["judge.model"] == "depictqa"
    assert rows[3]["judge.state"] is None
    (tmp_path / "list.json").write_text(json.dumps(lines))
    assert stage.judge(pairs, str(tmp_path / "again"), answers=str(tmp_path / "list.json")).rows == done.rows
    half = [{**line, "text": None if line["id"].endswith("distortion") else "Bad"} for line in lines]
    (tmp_path / "half.json").write_text(json.dumps(half))
    (first, *_) = stage.judge(pairs, str(tmp_path / "half"), answers=str(tmp_path / "half.json")).table().to_pylist()
    assert (first["judge.distortion"], first["judge.quality"], first["judge.state"]) == (None, "bad", "ok")
    with pytest.raises(UserError, match="exists already; name another with --export"):
        stage.export(pairs, tasks_path)
    for content, said in (('{"id": "x:quality", "text": "Good"}', "none of its 1 answers"), ("{", "not answers of")):
        answers_path.write_text(content)
        with pytest.raises(UserError, match=said):
            stage.judge(pairs, str(tmp_path / "x"), answers=str(answers_path))
    with pytest.raises(UserError, match="no such file of answers"):
        stage.judge(pairs, str(tmp_path / "x"), answers=str(tmp_path / "absent"))


def test_a_changed_file_is_an_error_and_somebody_has_to_judge(pairs, tmp_path):
    (tmp_path / "data" / "gt1.png").write_bytes(b"changed")
    with Server(lambda number, body: (200, "good" if _of(body) == "quality" else "none")) as server:
        done = stage.judge(pairs, str(tmp_path / "out"), settings=vlm.Settings("v", server.url))
    assert done.rows["error"] == 1 and done.rows["kept"] == 4
    with pytest.raises(UserError, match="name who judges"):
        stage.judge(pairs, str(tmp_path / "x"))
    shown = CliRunner().invoke(app, ["judge", pairs, "--endpoint", "http://localhost:1/v1"])
    assert "needs --model" in str(shown.exception)
