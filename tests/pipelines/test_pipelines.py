"""Recipes: order, skipping, and the same bytes after a kill."""

import os
import signal
import subprocess
import sys
import time

import pytest

from manifests import table
from manifests.errors import UserError
from pipelines import recipe, runner
from pipelines.photos import PHOTOGRAPHS, photos

CHAIN = """
name: small
steps:
  - {name: photos, run: pipelines.photos}
  - name: clean
    run: curate.ingest
    with: {folder: "@photos", gt: "{scene}/{id}.*", group: "{scene}", task: clean, dataset: photos, score: [signals]}
  - {name: pairs, run: curate.degrade, with: {manifest: "@clean", crop: 96, crops: 4, tasks: [denoise, sr]}}
  - {name: split, run: curate.split, with: {manifest: "@pairs", ref: 4, test: 0.2}}
  - {name: shards, run: curate.shard, with: {manifest: "@split", samples_per_shard: 20}}
"""


def files(folder):
    found = {}
    for base, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(base, name)
            if ".pipeline" not in path and name != "run.jsonl":
                with open(path, "rb") as file:
                    found[os.path.relpath(path, folder)] = file.read()
    return found


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(CHAIN)
    return str(path)


def run(path, output):
    said = []
    runner.run(recipe.load(path), str(output), say=said.append)
    return said


def test_photographs_are_copied_and_keep_scenes_together(tmp_path):
    photos(str(tmp_path / "p"))
    assert set(files(tmp_path / "p")) == set(PHOTOGRAPHS)
    assert sorted(os.listdir(tmp_path / "p" / "motorcycle")) == ["left.png", "right.png"]


def test_a_list_may_hold_several_outputs(tmp_path):
    chain = (
        CHAIN.partition("  - {name: pairs")[0]
        + """
  - name: other
    run: curate.ingest
    with: {folder: "@photos", gt: "{scene}/{id}.*", task: clean, dataset: other}
  - {name: both, run: curate.merge, with: {manifests: ["@clean", "@other"]}}
  - {name: rest, run: curate.decontaminate, with: {manifest: "@both", against: ["@other"]}}
"""
    )
    (tmp_path / "c.yaml").write_text(chain)
    run(str(tmp_path / "c.yaml"), tmp_path / "o")
    rows = table.read(str(tmp_path / "o" / "rest")).rows
    assert rows["rows"] == 2 * table.read(str(tmp_path / "o" / "clean")).rows["rows"]
    assert rows["dropped"] == rows["rows"]
    assert all("skipped" in line for line in run(str(tmp_path / "c.yaml"), tmp_path / "o"))


def test_unchanged_steps_are_skipped_and_changed_ones_made_anew(small, tmp_path):
    first = run(small, tmp_path / "o")
    assert not any("skipped" in line for line in first)
    before = files(tmp_path / "o")
    assert all("skipped" in line for line in run(small, tmp_path / "o"))
    with open(small, "w") as file:
        file.write(CHAIN.replace("ref: 4", "ref: 2"))
    again = run(small, tmp_path / "o")
    assert ["skipped" in line for line in again] == [True, True, True, False, False]
    with open(small, "w") as file:
        file.write(CHAIN)
    run(small, tmp_path / "o")
    assert files(tmp_path / "o") == before


@pytest.mark.slow
def test_killed_anywhere_it_ends_in_the_same_bytes(small, tmp_path):
    command = [sys.executable, "-m", "pipelines.cli", "run", small, "-o"]
    subprocess.run([*command, str(tmp_path / "whole")], check=True, capture_output=True)
    for delay in (1.0, 1.7, 2.4, 3.1):
        process = subprocess.Popen(
            [*command, str(tmp_path / "killed")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run([*command, str(tmp_path / "killed")], check=True, capture_output=True)
    whole, killed = files(tmp_path / "whole"), files(tmp_path / "killed")
    assert {name for name in killed if not name.rpartition("/")[2].startswith(".")} == set(whole)
    assert all(killed[name] == whole[name] for name in whole)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\nsteps: []", "steps"),
        ("name: x\nsteps: [{name: a, run: curate.nothing}]", "unknown stage"),
        ("name: x\nsteps: [{name: a, run: curate.split, with: {manifest: '@b'}}]", "reads @b"),
        ("name: x\nsteps: [{name: a, run: pipelines.photos}, {name: a, run: pipelines.photos}]", "two steps"),
        ("name: x\nsteps: [{name: a, run: pipelines.photos, with: {nothing: 1}}]", "unexpected keyword"),
        ("name: [", "not valid YAML"),
    ],
)
def test_bad_recipes_are_one_line(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        run(str(path), tmp_path / "o")


def test_a_folder_that_is_not_ours_is_left_alone(small, tmp_path):
    (tmp_path / "o" / "photos").mkdir(parents=True)
    (tmp_path / "o" / "photos" / "mine.txt").write_text("precious")
    with pytest.raises(UserError, match="no run of this recipe made it"):
        run(small, tmp_path / "o")
    assert (tmp_path / "o" / "photos" / "mine.txt").read_text() == "precious"


def test_the_quickstart_is_a_valid_recipe():
    assert recipe.built_in() == ["quickstart"]
    loaded = recipe.load("quickstart")
    assert {step.run for step in loaded.steps} <= set(runner.STAGES)
    with pytest.raises(UserError, match="Equimix brings: quickstart"):
        recipe.load("none")
