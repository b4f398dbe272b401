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
COMMANDS = ["simulate", "worlds", "noise", "world-from", "replay", "step", "shards", "plot", "rules"]


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
    chosen = "--rule des --rule uniform --eta 0.3 --intervals 5 --seed 2 --seeds 1 --world conflict -o sim"
    code, out, err = mixer("simulate", *chosen.split(), "--tasks", "deblur, desnow")
    assert (code, err) == (0, "")
    done = simulate("conflict", ["des", "uniform"], 5, [2], tasks=("deblur", "desnow"), params={"eta": 0.3})
    des, uniform = done.outcomes
    gain = float(des.mean[0] - done.uniform["mean"][0])
    numbers = f"{des.mean[0]:.3f}", f"{gain:+.3f}", f"{-des.worst[0]:.2f}"
    for text in (*numbers, des.worst_task[0], "starved", "to static"):
        assert text in out
    assert "weight by interval" in out and out.rstrip().endswith("sim/results.parquet")
    assert schedule.read("sim/des/schedule.parquet").rows() == des.rows()
    assert schedule.read("sim/uniform/schedule.parquet").rows() == uniform.rows()


def test_simulate_fits_an_ascii_terminal_of_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    monkeypatch.setenv("COLUMNS", "80")
    ran = python("-m", "mixer", "simulate", "--seeds", "1", "--intervals", "100", "--tasks", "low_light,dehaze")
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
        ("replay much.csv", 1, "much.csv: row 1: task 'sr': its score is much"),
        ("replay scores.csv -o scores.csv", 1, "scores.csv: exists already"),
        ("replay scores.csv -o out.txt", 2, "name it with .parquet"),
        ("replay scores.csv -o scores.csv/x.parquet", 1, "scores.csv"),
        ("replay scores.csv --rule des --eta -1", 2, "a number above 0"),
        ("replay scores.csv --set eta", 2, "--set eta: write it as NAME=VALUE"),
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
    Path("much.csv").write_text("interval,task,score\n0,sr,much\n")
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

    monkeypatch.setattr("mixer.rules.advance", interrupted)
    code, _, err = mixer("simulate", "-o", "sim")
    assert code == 130 and "Traceback" not in err and not Path("sim").exists()


def test_shards_are_written_as_json_as_well(mixer: Mixer, shard_folder: Path) -> None:
    mixer("replay", "scores.csv", "--rule", "des")
    assert mixer("shards", "schedule.parquet", shard_folder, "-o", "w.parquet")[0] == 0
    listed = json.loads(Path("w.json").read_text())["intervals"]
    assert listed == [schedule.read("w.parquet").weights(i) for i in range(2)]
    assert all(abs(sum(one.values()) - 1) < 1e-12 for one in listed)
    assert mixer("shards", "schedule.parquet", shard_folder, "-o", "w.parquet")[0] == 1


def test_missing_scores_are_said(mixer: Mixer) -> None:
    Path("scores.csv").write_text("interval,task,score\n0,deblur,20\n0,sr,40\n1,deblur,22\n1,sr,\n")
    code, _, err = mixer("replay", "scores.csv", "--rule", "des")
    assert code == 0 and err == "mixer: scores of sr are missing; these tasks kept their weights then\n"
    assert schedule.read("schedule.parquet").weights(1) == {"deblur": 0.5, "sr": 0.5}


def test_worlds(mixer: Mixer) -> None:
    code, out, _ = mixer("worlds")
    assert code == 0 and "conflict" in out and "many" in out
    assert json.loads(mixer("worlds", "--schema")[1])["title"] == "World"
    text = mixer("worlds", "--show", "mild")[1]
    Path("mine.yaml").write_text(text.replace("name: mild", "name: mine"))
    assert mixer("simulate", "--world", "mine.yaml", "--rule", "uniform", "--seeds", "2", "--intervals", "3")[0] == 0


def test_several_worlds_and_the_verdicts(mixer: Mixer) -> None:
    code, out, _ = mixer("simulate", "--world", "mild", "--world", "many", "--rule", "equilibrium", "--rule", "uniform",
                         "--intervals", "12", "--seeds", "3", "--no-oracles", "-o", "sim")  # fmt: skip
    assert code == 0 and "equilibrium against" in out and "to static" not in out
    found = sorted(str(path.relative_to("sim")) for path in Path("sim").rglob("*.p*"))
    assert found == [
        "many/equilibrium/schedule.parquet", "many/simulation.png", "many/uniform/schedule.parquet",
        "mild/equilibrium/schedule.parquet", "mild/simulation.png", "mild/uniform/schedule.parquet", "results.parquet",
    ]  # fmt: skip


def test_rules(mixer: Mixer) -> None:
    out = mixer("rules")[1]
    assert "equilibrium   Ours" in out and "(eta=0.1, first=1)" in out and "needs train_loss, reference_loss" in out


def test_plot(mixer: Mixer) -> None:
    mixer("replay", "scores.csv", "--rule", "des")
    for name, start in (("one.png", b"\x89PNG"), ("one.html", b"<")):
        assert mixer("plot", "schedule.parquet", "-o", name)[0] == 0
        assert Path(name).read_bytes().startswith(start)
    assert mixer("plot", "schedule.parquet", "-o", "one.gif")[0] == 2
    assert mixer("plot", "schedule.parquet", "-o", "one.png")[0] == 1


def test_parameters_may_be_json_or_text(mixer: Mixer) -> None:
    Path("scores.csv").write_text("interval,task,score\n" + "".join(f"{i},{t},{i}\n" for i in range(3) for t in "ab"))
    assert mixer("replay", "scores.csv", "--rule", "sequential", "--set", "order=b,a", "--set", "intervals=1")[0] == 0
    assert schedule.read("schedule.parquet").weights(0) == {"a": 0.0, "b": 1.0}
    assert mixer("replay", "scores.csv", "--target", "a=30", "-o", "two.parquet")[0] == 0
    code, _, err = mixer("replay", "scores.csv", "--target", "c=30", "-o", "three.parquet")
    assert code == 2 and "target of unknown task 'c'" in err
