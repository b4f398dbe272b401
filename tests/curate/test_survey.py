"""A look before ingest: the layout that fits, and what would be found."""

import pytest
from typer.testing import CliRunner

from curate import cli, layouts
from curate.survey import best_layout, survey
from manifests.errors import UserError


@pytest.fixture
def tree(save, photographs, tmp_path):
    """tree(paths): a folder with a small photograph at each path."""
    picture = photographs["coffee"][:32, :48]

    def make(*paths):
        for path in paths:
            save(f"d/{path}", picture)
        return str(tmp_path / "d")

    return make


@pytest.mark.parametrize(
    ("paths", "name"),
    [
        (["01_hazy.png", "01_GT.png", "02_hazy.png", "02_GT.png"], "NH-HAZE"),
        (["our485/low/2.png", "our485/high/2.png", "eval15/low/1.png", "eval15/high/1.png"], "LOL"),
        (["all/synthetic/a.jpg", "all/gt/a.jpg", "readme.png"], "Snow100K"),
        (["train/train_blur/000/00000000.png", "train/train_sharp/000/00000000.png"], "REDS"),
    ],
)
def test_auto_finds_the_layout(tree, paths, name):
    assert best_layout(tree(*paths)) == name


def test_auto_explains_why_none_or_several_fit(tree, tmp_path):
    with pytest.raises(UserError, match=r"fits .*HQ-NightRain.* equally well; name one with --layout"):
        best_layout(tree("input/1.png", "target/1.png"))
    with pytest.raises(UserError, match=r"fits .*FoundIR, FoundIR-test.* equally well"):
        best_layout(tree("01Blur/LQ/0001.png", "01Blur/GT/0001.png"))
    with pytest.raises(UserError, match="no layout explains its 9 images"):
        best_layout(tree("a/b/1.png", "a/b/2.png", "a/c/3.png", "x/y/4.png", "x/y/5.png"))


def test_a_survey_counts_and_writes_nothing(tree, tmp_path):
    folder = tree("our485/low/2.png", "our485/high/2.png", "our485/low/3.png", "eval15/low/1.png", "eval15/high/1.png")
    (tmp_path / "d" / "cover.png").write_bytes((tmp_path / "d" / "our485/low/2.png").read_bytes())
    found = survey(folder, layouts.load("LOL"))
    assert found.counts == {("low_light", "real", "train"): 1, ("low_light", "real", "test"): 1}
    assert found.expected == {("low_light", "real", "train"): 485, ("low_light", "real", "test"): 15}
    assert found.problems == {"no GT file matches this LQ": 1}
    assert found.unmatched == ["cover.png", "our485/low/3.png"]
    assert found.bytes > 0
    before = sorted(tmp_path.rglob("*"))
    said = CliRunner().invoke(cli.app, ["ingest", folder, "--layout", "auto", "--dry-run", "-o", str(tmp_path / "m")])
    assert said.exit_code == 0
    assert "our485/low/2.png + our485/high/2.png" in said.output
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("paths", [["a/1.png", "b/2.png"], ["noisy/1.png", "denoised/1.png", "mean/1.png"]])
def test_auto_takes_no_layout_of_wildcards_without_evidence(tree, paths):
    with pytest.raises(UserError, match="no layout explains"):
        best_layout(tree(*paths))


def test_auto_takes_a_layout_of_wildcards_by_the_folders_name(save, photographs, tmp_path):
    save("LSDIR_train/0001000/0000001.png", photographs["coffee"][:32, :48])
    assert best_layout(str(tmp_path / "LSDIR_train")) == "LSDIR"
