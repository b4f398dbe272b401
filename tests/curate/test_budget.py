"""A stage never makes most rows errors and ends well: past `--max-errors`, half of them by default, it stops."""

import os

import pytest

from curate import budget
from curate.caption import caption
from curate.degrade import degrade
from curate.filter import filter as filter_
from curate.identify import identify
from curate.ingest import ingest
from curate.score import score
from curate.shard import shard
from curate.split import split
from manifests import table
from manifests.errors import UserError


@pytest.fixture
def pairs(hazy, tmp_path):
    """Twelve pairs, two of each of six GTs, in three splits."""
    made = ingest(str(hazy), str(tmp_path / "m"), lq="hazy/{id}_*.jpg", gt="clear/{id}.png", task="dehaze")
    return split(made.path, str(tmp_path / "s"), ref=2, test=2).path


STAGES = {
    "score": lambda manifest, output, **how: score(manifest, output, iqa=["entropy"], **how),
    "identify": identify,
    "filter": lambda manifest, output, **how: filter_(manifest, output, iqa=["entropy"], **how),
    "caption": caption,
    "degrade": lambda manifest, output, **how: degrade(manifest, output, tasks=["denoise", "sr"], **how),
    "shard": shard,
}


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_whose_files_are_gone_ends_with_code_3(name, pairs, hazy, tmp_path):
    os.rename(hazy / "clear", hazy / "elsewhere")
    with pytest.raises(UserError, match=r"rows failed, more than --max-errors 50% \(the default\)") as stopped:
        STAGES[name](pairs, str(tmp_path / "out"))
    assert stopped.value.exit_code == 3
    assert not (tmp_path / "out" / "manifest.json").exists()
    done = STAGES[name](pairs, str(tmp_path / "out"), max_errors="100%")
    assert done.rows["error"] > 6
    os.rename(hazy / "elsewhere", hazy / "clear")


@pytest.mark.parametrize("name", STAGES)
def test_rows_that_came_in_as_errors_do_not_count(name, pairs, hazy, tmp_path):
    for number in range(4):
        os.unlink(hazy / "clear" / f"{number}.png")
    broken = score(pairs, str(tmp_path / "broken"), iqa=["entropy"], max_errors="100%")
    assert broken.rows["error"] == 8
    done = STAGES[name](broken.path, str(tmp_path / "out"))
    assert done.rows["error"] == 8 and done.rows["kept"] + done.rows["dropped"] >= 4


def test_one_gt_of_two_may_be_most_of_the_rows(hazy, save, photographs, tmp_path):
    """The share of the distinct GTs is not that of the rows."""
    for number in range(8):
        save(f"data/hazy/0_{10 + number}.jpg", photographs["coffee"] // (2 + number), quality=90)
    options = {"lq": "hazy/{id}_*.jpg", "gt": "clear/{id}.png", "check_pairs": False}  # its LQs are of other scenes
    made = ingest(str(hazy), str(tmp_path / "m"), task="dehaze", **options)
    os.unlink(hazy / "clear" / "0.png")
    for number in (1, 2):
        os.unlink(hazy / "clear" / f"{number}.png")
    with pytest.raises(UserError, match=r"score: 14 of 20 rows would become errors.*: 0\.png: No such file") as stopped:
        score(made.path, str(tmp_path / "out"), iqa=["entropy"])
    assert stopped.value.exit_code == 3


def test_ingest_of_files_without_partners_ends_with_code_3(hazy, tmp_path):
    for number in range(4):
        os.unlink(hazy / "clear" / f"{number}.png")
    options = {"lq": "hazy/{id}_*.jpg", "gt": "clear/{id}.png", "task": "dehaze"}
    with pytest.raises(UserError, match="ingest: 8 of 12 rows failed") as stopped:
        ingest(str(hazy), str(tmp_path / "m"), **options)
    assert stopped.value.exit_code == 3
    assert ingest(str(hazy), str(tmp_path / "m"), max_errors="100%", **options).rows["error"] == 8


def test_a_filter_by_a_column_that_most_rows_lack_ends_with_code_3(pairs, tmp_path):
    import pyarrow as pa

    source = table.read(pairs)
    rows = source.table()
    values = pa.array([1.0] * 3 + [None] * (rows.num_rows - 3), pa.float64())
    table.write(
        str(tmp_path / "own"), rows.append_column("judge.mine", values), roots=source.roots, stages=source.stages
    )
    with pytest.raises(UserError, match=r"filter: 9 of 12 rows would become errors.*has no judge\.mine") as stopped:
        filter_(str(tmp_path / "own"), str(tmp_path / "out"), minimum={"judge.mine": 0.5})
    assert stopped.value.exit_code == 3 and not (tmp_path / "out" / "manifest.json").exists()
    policy = tmp_path / "policy.yaml"
    policy.write_text("keep: judge.mine > 0.5")
    with pytest.raises(UserError, match=r"filter: 9 of 12 rows would become errors") as stopped:
        filter_(str(tmp_path / "own"), str(tmp_path / "out"), policy=str(policy))
    done = filter_(str(tmp_path / "own"), str(tmp_path / "out"), policy=str(policy), max_errors="80%")
    assert done.rows["error"] == 9


def test_half_is_not_more_than_half():
    assert budget.allowed(None, 2) == 1 and budget.allowed(None, 1) == 0.5
    assert budget.allowed("100%", 7) == 7 and budget.allowed("3", 7) == 3
