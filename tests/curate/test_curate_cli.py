"""The `curate` command: what a person sees."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from curate import engine
from curate.cli import app
from curate.ingest import ingest
from manifests import table
from manifests.errors import UserError

COMMANDS = (
    *(
        "ingest",
        "layouts",
        "retry",
        "merge",
        "degrade",
        "score",
        "filter",
        "identify",
        "caption",
        "judge",
        "split",
        "shard",
    ),
    *("review", "calibrate", "report", "dedup", "decontaminate", "explain", "diff"),
)


def test_every_command_has_an_example(command):
    code, out, _ = command("curate", "--help")
    assert code == 0
    for name in COMMANDS:
        assert name in out
        assert f"Example: curate {name}" in command("curate", name, "--help")[1]


@pytest.mark.parametrize("name", ["curate", "mixer", "trainer", "pipelines"])
def test_help_loads_nothing_heavy(name):
    code = f"import sys; from {name}.cli import app; print(' '.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "pyiqa", "dask", "pandas", "cv2", "numpy", "pyarrow"} & set(loaded)


def test_the_commands_work_in_order_with_no_path_given(command, hazy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = command(
        "curate", "ingest", "data", "--gt", "clear/{id}.png", "--task", "clean", "--score", "signals"
    )
    assert (code, "6" in out) == (0, True), err
    assert command("curate", "filter", "--iqa", "piqe")[0] == 0
    assert command("curate", "caption")[0] == 0
    assert command("curate", "identify", "manifest-caption", "-o", "i")[0] == 0
    assert command("curate", "degrade", "--task", "denoise", "--crop", "96", "--crops", "2")[0] == 0
    assert command("curate", "split", "manifest-degrade", "--ref", "2", "--test", "0.2", "-o", "s")[0] == 0
    assert command("curate", "shard", "s", "-o", "shards")[0] == 0
    assert command("curate", "merge", "manifest-filter", "i", "-o", "both")[0] == 0
    code, out, _ = command("curate", "report", "shards")
    assert (code, out.strip()) == (0, "shards-report.html")
    code, _, err = command("curate", "filter", "--iqa", "piqe")
    assert (code, err.count("\n")) == (1, 1)
    assert "exists already" in err


def test_a_chain_without_paths_reads_what_the_stage_before_wrote(command, hazy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ingest = ("ingest", "data", "--lq", "hazy/{id}_*.jpg", "--gt", "clear/{id}.png", "--task", "dehaze")
    chain = [(ingest, ""), (("filter", "--iqa", "entropy"), "manifest"), (("caption",), "manifest-filter")]
    chain += [(("split", "--ref", "2", "--test", "2"), "manifest-caption"), (("shard",), "manifest-split")]
    for arguments, source in chain:
        code, _, err = command("curate", *arguments)
        assert code == 0, err
        assert (f"reading {source}\n" in err) == (source not in ("", "manifest"))
        made = table.read(f"manifest-{arguments[0]}" if source else "manifest")
        given = [table.read(source).fingerprint] if source else []
        assert made.stages[-1]["inputs"] == given
    for name in ("doctor", "show", "report"):
        code, _, err = command("curate", name)
        assert code == 0 and "reading manifest-shard" in err
    code, _, err = command("curate", "split")
    assert (code, err) == (
        1,
        "curate: manifest-split: exists already; name another with -o, or replace it with --overwrite\n",
    )
    assert command("curate", "split", "manifest-filter", "--ref", "2")[0] == 0  # a path that is named always wins
    assert table.read("manifest-filter-split").stages[-2]["stage"] == "filter"
    code, _, err = command("curate", "dedup")
    assert code == 2 and "manifest-filter-split, manifest-shard; name the one to read" in err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["filter", "none", "--iqa", "piqe"], 1, "no such manifest"),
        (["filter", "data", "--iqa", "piqe"], 1, "not a manifest"),
        (["ingest", "none", "--gt", "{id}.png", "--task", "t"], 1, "no such folder"),
        (["ingest", "data", "--gt", "{id}.png", "--task", "t"], 1, "none of its 18 image files"),
        (["filter", "m", "--iqa", "musik"], 2, "did you mean musiq"),
        (["filter", "m", "--min", "piqe"], 2, "write it as NAME=VALUE"),
        (["filter", "m", "--min", "piqe=abc"], 2, "is not a number"),
        (["degrade", "m", "--task", "melt"], 2, "unknown task 'melt'"),
        (["degrade", "m", "--task", "sr:x3"], 2, "unknown subtask"),
        (["degrade", "m", "--crop", "100"], 2, "multiple of 8"),
        (["shard", "m"], 1, "run 'curate split' first"),
        (["split", "m", "--test", "-1"], 2, "a share below 1"),
        (["merge", "m"], 2, "two manifests or more"),
    ],
)
def test_bad_input_is_one_line(command, hazy, tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    assert command("curate", "ingest", "data", "--gt", "clear/{id}.png", "--task", "clean", "-o", "m")[0] == 0
    found, _, err = command("curate", *arguments)
    assert (found, err.count("\n")) == (code, 1), err
    assert message in err
    assert err.startswith("curate: ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["filter", "m", "--no-measure", "--max", "piqe=3", "--weights", "musiq=x"], "--weights means nothing here"),
        (["filter", "m", "--policy", "p.yaml", "--min", "piqe=3", "--dry-run"], "--min means nothing here"),
        (["filter", "m", "--max", "piqe=3", "--no-measure", "--device", "cuda"], "--device means nothing here"),
        (["filter", "m", "--max", "piqe=3", "--max", "piqe=4"], "--max piqe: given twice"),
        (["filter", "m", "--max", "piqe=3%"], "'3%' is not a number"),
        (["identify", "m", "--device", "cpu"], "--device means nothing here"),
        (["identify", "m", "--fit-clean"], "--fit-clean means nothing here"),
        (["identify", "m", "--model", "daclip", "--fit-clean", "-o", "x"], "--output means nothing here"),
        (["caption", "m", "--prompt", "What?"], "--prompt means nothing here: no model is asked"),
        (["judge", "m", "--answers", "a.json", "--batch", "3"], "--batch means nothing here"),
        (["judge", "m", "--export", "t.json", "-o", "x"], "--output means nothing here"),
        (["score", "m", "--iqa", "piqe", "--device", "banana"], "choose cpu, cuda, or one device"),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(photographs, save, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    save("d/a.png", photographs["coffee"])
    ingest("d", "m", gt="{id}.png", task="clean")
    shown = CliRunner().invoke(app, arguments)
    assert isinstance(shown.exception, UserError) and said in str(shown.exception)


def test_an_output_has_a_name_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert engine.default_output("m/", "score") == "m-score"
    assert engine.default_output(".", "score") == f"{tmp_path}-score"
