"""Pairs from a list: three formats, paths, and one clear line for what cannot be read."""

import json
import unicodedata

import pytest

from curate.ingest import ingest
from manifests.errors import UserError

PAIRS = [("in/a b.png", "out/1.png"), ("in/c.png", "out/1.png"), ("in/d.png", "out/2.png")]


@pytest.fixture
def folder(photographs, save, tmp_path):
    """A folder in which no pattern tells what belongs to what. Its path."""
    pictures = list(photographs.values())
    for path in sorted({path for pair in PAIRS for path in pair}):
        save(f"d/{path}", pictures[0 if "2" in path or "d" in path else 1])
    return tmp_path / "d"


def rows_of(manifest):
    return manifest.table().to_pylist()


def written(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return str(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("l.csv", "lq,gt\n" + "\n".join(f'"{a}",{b}' for a, b in PAIRS)),
        ("l.CSV", "\ufeffGT, LQ\r\n" + "\r\n".join(f"{b},{a}" for a, b in PAIRS) + "\r\n\r\n"),
        ("l.jsonl", "\n".join(json.dumps({"lq": a, "gt": b}) for a, b in PAIRS) + "\n"),
        ("l.txt", "# LQ and GT\n\n" + "\n".join(f"{a}\t{b}" for a, b in PAIRS)),
        ("l.lst", "\n".join(f"./{a} , {b}" for a, b in PAIRS)),
    ],
)
def test_every_format_gives_the_same_rows(folder, tmp_path, name, text):
    done = ingest(
        str(folder), str(tmp_path / "m"), check_pairs=False, pairs=written(tmp_path, name, text), task="derain"
    )
    assert sorted((row["lq_path"], row["gt_path"]) for row in rows_of(done)) == PAIRS
    assert {(row["task"], row["status"], row["split"]) for row in rows_of(done)} == {("derain", "kept", None)}
    assert len({row["group"] for row in rows_of(done)}) == 2


def test_columns_of_a_list_and_their_defaults(folder, tmp_path):
    text = (
        "lq,gt,task,subtask,split,group,license\n"
        "in/c.png,out/1.png,dehaze,real,Test,g1,CC0\n"
        f"{folder}/in/d.png,out/2.png,,,,,\n"
        ",out/2.png,clean,,,,\n"
        "in/d.png,,restore,,,,\n"
    )
    options = {"task": "derain", "subtask": "streaks", "split": "Train", "license": "MIT"}
    done = ingest(
        str(folder),
        str(tmp_path / "m"),
        check_pairs=False,
        pairs=written(tmp_path, "l.csv", text),
        dataset="d",
        **options,
    )
    names = ("lq_path", "gt_path", "task", "subtask", "split", "group", "license")
    assert [tuple(row[name] for name in names) for row in rows_of(done)] == [
        ("in/c.png", "out/1.png", "dehaze", "real", "test", "d/g1", "CC0"),
        (None, "out/2.png", "clean", "streaks", "train", "d/out/2.png", "MIT"),
        ("in/d.png", "out/2.png", "derain", "streaks", "train", "d/out/2.png", "MIT"),
        ("in/d.png", None, "restore", "streaks", "train", "d/in/d.png", "MIT"),
    ]


def test_a_file_that_is_not_there_is_an_error_row(folder, tmp_path):
    text = "in/c.png out/1.png\nin/x.png out/2.png\n"
    done = ingest(
        str(folder), str(tmp_path / "m"), check_pairs=False, pairs=written(tmp_path, "l.txt", text), task="derain"
    )
    assert done.rows == {"rows": 2, "kept": 1, "dropped": 0, "error": 1}
    assert "in/x.png: No such file" in rows_of(done)[1]["decisions"][0]["text"]


def test_names_are_found_in_either_unicode_form(folder, save, photographs, tmp_path):
    nfd = unicodedata.normalize("NFD", "caf\u00e9.png")
    save(f"d/in/{nfd}", photographs["coffee"])
    text = f"in/{unicodedata.normalize('NFC', nfd)}\tout/2.png"
    done = ingest(
        str(folder), str(tmp_path / "m"), check_pairs=False, pairs=written(tmp_path, "l.txt", text), task="derain"
    )
    assert [(row["lq_path"], row["status"]) for row in rows_of(done)] == [(f"in/{nfd}", "kept")]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("l.csv", "lq,gt\nin/c.png\n", "l.csv, line 2: has 1 cells where the header has 2"),
        ("l.csv", "in/c.png,out/1.png\n", "l.csv, line 1: 'in/c.png' is none of lq, gt"),
        ("l.csv", "task\nx\n", "line 1: a .csv begins with a header that names lq and gt"),
        ("l.csv", "lq,gt,score\nin/c.png,out/1.png,3\n", "line 1: 'score' is none of .*--join-scores"),
        ("l.csv", "lq,lq\nin/c.png,out/1.png\n", "line 1: names a column twice"),
        ("l.csv", 'lq,gt\n"in/c.png,out/1.png\n', "line 2: not readable as CSV"),
        ("l.csv", "lq,gt\n,\n,,\n", "lists no pair"),
        ("l.csv", "lq,gt,split\nin/c.png,out/1.png,val\n", "line 2: split 'val': no such split"),
        ("l.csv", "lq,gt,task\n\n,,derain\n", "line 3: names neither"),
        ("l.csv", "lq,gt\n", "lists no pair"),
        ("l.jsonl", '{"lq": "in/c.png", "gt"\n', "l.jsonl, line 1: not valid JSON"),
        ("l.jsonl", '\n["in/c.png", "out/1.png"]\n', "line 2: not an object"),
        ("l.jsonl", '{"lq": "in/c.png", "gt": 3}\n', "line 1: gt is not text"),
        ("l.txt", "in/c.png\n", "l.txt, line 1: not an LQ and a GT"),
        ("l.txt", "in/a b.png out/1.png\n", "line 1: not an LQ and a GT"),
        ("l.txt", "in/c.png (480,480,3)\n", "line 1: not an LQ and a GT"),
        ("l.txt", "in/c.png out/1.png\n\nin/d.png out/2.png\nin/c.png out/1.png", "line 4: the same pair as in line 1"),
        ("l.txt", "../d2/c.png out/1.png\n", "line 1: '../d2/c.png' lies outside"),
        ("l.txt", "/etc/c.png out/1.png\n", "line 1: '/etc/c.png' lies outside"),
        ("l.txt", "", "lists no pair"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_one_line(folder, tmp_path, name, text, message):
    with pytest.raises(UserError, match=message) as error:
        ingest(str(folder), str(tmp_path / "m"), check_pairs=False, pairs=written(tmp_path, name, text), task="derain")
    assert error.value.exit_code == 2
    assert not (tmp_path / "m" / "manifest.json").exists()


def test_a_list_has_tasks_and_stands_alone(folder, tmp_path):
    path = written(tmp_path, "l.txt", "in/c.png out/1.png\n")
    with pytest.raises(UserError, match="line 1: has no task; give --task"):
        ingest(str(folder), str(tmp_path / "m"), check_pairs=False, pairs=path)
    with pytest.raises(UserError, match="--gt means nothing beside --pairs"):
        ingest(str(folder), str(tmp_path / "m"), check_pairs=False, pairs=path, gt="out/{id}.png", task="derain")
    (tmp_path / "b.txt").write_bytes(b"in/\xff.png out/1.png\n")
    with pytest.raises(UserError, match="is not UTF-8 text"):
        ingest(str(folder), str(tmp_path / "m"), check_pairs=False, pairs=str(tmp_path / "b.txt"), task="derain")


def test_the_command_looks_first(command, folder, tmp_path):
    path = written(tmp_path, "l.txt", "in/c.png out/1.png\n")
    code, out, _ = command("curate", "ingest", folder, "--pairs", path, "--task", "derain", "--dry-run")
    assert code == 0 and "in/c.png + out/1.png" in out and "3 images are left out" in out
    assert command("curate", "ingest", folder, "--pairs", path, "--task", "derain", "-o", tmp_path / "m")[0] == 0
    code, _, err = command("curate", "ingest", folder, "--pairs", tmp_path / "none.csv", "--task", "derain")
    assert code == 1 and err.count("\n") == 1 and "none.csv: No such file" in err
