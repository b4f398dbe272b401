"""The mixer's command line: what it prints, where it writes, and one clear line for what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mixer import schedule
from mixer.simulate import simulate

Mixer = Callable[..., tuple[int, str, str]]
COMMANDS = ["simulate", "replay", "step", "shards"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("scores.csv").write_text("interval,task,score\n0,deblur,20\n0,sr,40\n1,deblur,22\n1,sr,40\n")


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)


def test_help_imports_nothing_heavy() -> None:
    ran = python("-X", "importtime", "-m", "mixer.cli", "--help")
    assert ran.returncode == 0 and all(name in ran.stdout for name in COMMANDS)
    imported = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in ran.stderr.splitlines()}
    assert "typer" in imported
    heavy = {"torch", "pyiqa", "dask", "pandas", "pyarrow", "numpy", "scipy", "plotly", "pydantic", "rich"}
    assert not imported & heavy


def test_the_mixer_needs_no_torch_and_nothing_of_ours() -> None:
    code = """
import sys
from mixer import observations, replay, rules, schedule, shards, show, simulate, worlds
rules.names()
simulate.simulate(intervals=2)
found = {name.split(".")[0] for name in sys.modules}
print(sorted(found & {"torch", "pyiqa", "dask", "pandas", "PIL", "manifests", "curate", "trainer", "pipelines"}))
"""
    ran = python("-c", code)
    assert (ran.returncode, ran.stdout.strip()) == (0, "[]")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_an_example_in_its_help(mixer: Mixer, command: str) -> None:
    code, out, _ = mixer(command, "--help")
    examples = [line.strip() for line in out.splitlines() if line.strip().startswith("Example: ")]
    assert code == 0 and examples and all(line.startswith(f"Example: mixer {command}") for line in examples)


def test_python_dash_m() -> None:
    assert "simulate" in python("-m", "mixer", "--help").stdout


def test_simulate(mixer: Mixer) -> None:
    code, out, err = mixer("simulate", "--rule", "des", "--rule", "uniform", "--eta", "0.3", "--intervals", "5",
                           "--seed", "2", "--world", "conflict", "--tasks", "deblur, desnow", "-o", "sim")  # fmt: skip
    assert (code, err) == (0, "")
    des, uniform = simulate("conflict", ["des", "uniform"], 5, 2, tasks=("deblur", "desnow"), params={"eta": 0.3})
    for text in (f"{des.mean:.3f}", f"{des.versus_uniform:+.3f}", des.worst_task, f"{des.worst_gap:.2f}", "starved"):
        assert text in out
    assert "weight by interval" in out and out.rstrip().endswith("sim/simulation.html")
    assert schedule.read("sim/des/schedule.parquet").rows() == des.rows()
    assert schedule.read("sim/uniform/schedule.parquet").rows() == uniform.rows()


def test_simulate_fits_an_ascii_terminal_of_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    monkeypatch.setenv("COLUMNS", "80")
    ran = python("-m", "mixer", "simulate", "--intervals", "100", "--tasks", "low_light,dehaze")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert max(map(len, ran.stdout.splitlines())) <= 80 and "@@" in ran.stdout


def test_replay(mixer: Mixer) -> None:
    code, out, err = mixer("replay", "scores.csv", "--rule", "des", "--set", "eta=0.5", "--initial", "deblur=3,sr=1")
    assert (code, out, err) == (0, "schedule.parquet: 2 intervals, 4 rows\n", "")
    found = schedule.read("schedule.parquet")
    odds = 3 * 2.718281828459045**-1
    assert found.weights(0) == {"deblur": 0.75, "sr": 0.25}
    assert found.weights(1)["deblur"] == pytest.approx(odds / (1 + odds), abs=1e-15)


@pytest.mark.parametrize(
    ("options", "scores"),
    [
        ([], [20, 40]),
        (["--lower-is-better"], [-20, -40]),
        (["--lower-is-better-for", "sr"], [20, -40]),
        (["--lower-is-better-for", "sr,deblur"], [-20, -40]),
    ],
)
def test_lower_is_better(mixer: Mixer, options: list[str], scores: list[float]) -> None:
    assert mixer("replay", "scores.csv", *options)[0] == 0
    assert [row["score"] for row in schedule.read("schedule.parquet").rows()][:2] == scores


def test_step_prints_json(mixer: Mixer) -> None:
    for interval, score in enumerate((20, 22)):
        Path("one.json").write_text(json.dumps({"deblur": score, "sr": 40}))
        code, out, err = mixer("step", "--state", "s.json", "--scores", "one.json", "--rule", "des", "--eta", "0.5")
        result = json.loads(out)
        assert (code, err, result["interval"]) == (0, "", interval)
    assert result["weights"]["deblur"] == pytest.approx(1 / (1 + 2.718281828459045), abs=1e-15)
    assert json.loads(Path("s.json").read_text())["interval"] == 2


def test_shards(mixer: Mixer, shard_folder: Path) -> None:
    mixer("replay", "scores.csv")
    code, out, _ = mixer("shards", "schedule.parquet", shard_folder)
    assert (code, out) == (0, "shard_schedule.parquet: 2 intervals, 3 shards\n")
    assert schedule.read("shard_schedule.parquet").weights(0)["deblur-train-000000.tar"] == 0.375


def test_a_schedule_that_does_not_fit_its_shards_is_named(mixer: Mixer, shard_folder: Path) -> None:
    Path("weights.csv").write_text("interval,task,weight\n0,deblur,1\n")
    code, _, err = mixer("shards", "weights.csv", shard_folder.name)  # 'shards', as a message begins as well
    assert code == 1 and err.startswith("mixer: weights.csv does not fit shards: shards of task 'sr' have no weight")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ("simulate -o scores.csv", 1, "scores.csv: exists already"),
        ("simulate --rule nonesuch", 2, "unknown rule 'nonesuch'"),
        ("simulate --world mars", 2, "unknown world 'mars'"),
        ("simulate --rule uniform --eta 1", 2, "none of the rules uniform has a parameter 'eta'"),
        ("replay absent.csv", 1, "absent.csv: no such file"),
        ("replay .", 1, "cannot be read as a table"),
        ("replay nan.csv", 1, "nan.csv: row 1: task 'sr': its score is nan"),
        ("replay scores.csv -o scores.csv", 1, "scores.csv: exists already"),
        ("replay scores.csv -o out.txt", 2, "name it with .parquet"),
        ("replay scores.csv -o scores.csv/x.parquet", 1, "scores.csv"),
        ("replay scores.csv --eta -1", 2, "a number above 0"),
        ("replay scores.csv --set eta", 2, "--set eta: write it as NAME=NUMBER"),
        ("replay scores.csv --initial deblur=1,deblur=2", 2, "deblur is given twice"),
        ("replay scores.csv --rule uniform --initial deblur=1,sr=1", 2, "sets its own weights"),
        ("replay scores.csv --rule proportional", 1, "needs task_size"),
        ("replay scores.csv --lower-is-better-for derain", 1, "has no scores of 'derain'"),
        ("step --state s.json --scores absent.json", 1, "absent.json: no such file"),
        ("step --state scores.csv --scores scores.csv", 1, "scores.csv: is no JSON"),
        ("shards absent.parquet .", 1, "absent.parquet: no such schedule"),
        ("shards scores.csv .", 1, "scores.csv: has no column 'weight'"),
        ("shards weights.csv absent", 1, "absent/manifest.json: no such file"),
    ],
)
def test_bad_input_is_one_clear_line(mixer: Mixer, arguments: str, code: int, said: str) -> None:
    Path("nan.csv").write_text("interval,task,score\n0,sr,nan\n")
    Path("weights.csv").write_text("interval,task,weight\n0,sr,1\n")
    before = {path: path.read_bytes() for path in Path().iterdir()}
    ended, out, err = mixer(*arguments.split())
    assert (ended, out) == (code, "") and said in err
    assert err.startswith("mixer: ") and err.count("\n") == 1
    assert {path: path.read_bytes() for path in Path().iterdir()} == before


@pytest.mark.parametrize("arguments", ["nonesuch", "replay", "replay scores.csv --nonesuch", "simulate --intervals 0"])
def test_bad_usage_exits_with_2(mixer: Mixer, arguments: str) -> None:
    code, out, err = mixer(*arguments.split())
    assert (code, out) == (2, "") and "Traceback" not in err


def test_an_interrupt_exits_with_130(mixer: Mixer, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mixer.rules.update", interrupted)
    code, _, err = mixer("simulate", "-o", "sim")
    assert code == 130 and "Traceback" not in err and not Path("sim").exists()
