"""A folder alone: what it may be ingested as, told by the names in it, and nothing run in silence."""

import pytest

from curate.patterns import Pattern
from curate.proposals import propose
from manifests import table
from manifests.errors import UserError

N = range(1, 6)


def sides(*names, form="{side}/{n}.png"):
    return [form.format(side=side, n=n) for side in names for n in N]


@pytest.fixture
def tree(tmp_path):
    """tree(paths): a folder with an empty file at each path; proposals look at names alone."""

    def make(paths, name="folder"):
        for path in paths:
            target = tmp_path / name / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
        return str(tmp_path / name)

    return make


@pytest.mark.parametrize(
    ("paths", "lq", "gt", "task"),
    [
        (sides("input", "target"), "input/{id}.png", "target/{id}.png", "NAME"),
        (sides("LQ", "GT"), "LQ/{id}.png", "GT/{id}.png", "NAME"),
        (sides("lq", "hq"), "lq/{id}.png", "hq/{id}.png", "NAME"),
        (sides("inp", "tar"), "inp/{id}.png", "tar/{id}.png", "NAME"),
        (sides("degraded", "clean"), "degraded/{id}.png", "clean/{id}.png", "NAME"),
        (sides("raw-890", "reference-890"), "raw-890/{id}.png", "reference-890/{id}.png", "NAME"),
        (sides("low", "high"), "low/{id}.png", "high/{id}.png", "low_light"),
        (sides("lowlight_input", "lowlight_gt"), "lowlight_input/{id}.png", "lowlight_gt/{id}.png", "low_light"),
        (sides("hazy", "GT"), "hazy/{id}.png", "GT/{id}.png", "dehaze"),
        (sides("haze", "clean"), "haze/{id}.png", "clean/{id}.png", "dehaze"),
        (sides("noisy", "mean"), "noisy/{id}.png", "mean/{id}.png", "denoise"),
        (sides("noisy", "clean", "denoised"), "noisy/{id}.png", "clean/{id}.png", "denoise"),
        (sides("blur", "sharp"), "blur/{id}.png", "sharp/{id}.png", "deblur"),
        (sides("Rain", "Norain"), "Rain/{id}.png", "Norain/{id}.png", "derain"),
        (sides("rain", "norain", form="{side}/{side}-{n}.png"), "rain/rain-{id}.png", "norain/norain-{id}.png",
         "derain"),
        (sides("Low", "Normal", form="{side}/{side}0{n}.png"), "Low/Low{id}.png", "Normal/Normal{id}.png", "low_light"),
        (sides("snow", "gt"), "snow/{id}.png", "gt/{id}.png", "desnow"),
        (sides("sea_input", "sea_gt"), "sea_input/{id}.png", "sea_gt/{id}.png", "NAME"),
        (sides("underwater/lq", "underwater/gt"), "underwater/lq/{id}.png", "underwater/gt/{id}.png", "underwater"),
        ([f"data/{n}_rain.png" for n in N] + [f"gt/{n}_clean.png" for n in N],
         "data/{id}_rain.png", "gt/{id}_clean.png", "derain"),
        ([f"clear/{n}.png" for n in N] + [f"hazy/{n}_{k}.png" for n in N for k in range(12)],
         "hazy/{id}_*.png", "clear/{id}.png", "dehaze"),
        ([f"HR/{n}.png" for n in N] + [f"LRx4/{n}x4.png" for n in N], "LRx4/{id}x4.png", "HR/{id}.png", "sr"),
        ([f"HR/000{n}.png" for n in N] + [f"LR/000{n}x4.PNG" for n in N], "LR/{id}x4.PNG", "HR/{id}.png", "sr"),
        (sides("real", "mean", form="Canon5D_{n}_{side}.JPG"), "{id}_real.JPG", "{id}_mean.JPG", "denoise"),
        (sides("lq", "gt", form="x/{n}_{side}.png"), "x/{id}_lq.png", "x/{id}_gt.png", "NAME"),
        (sides("in", "gt", form="{n}_{side}.png"), "{id}_in.png", "{id}_gt.png", "NAME"),
        (sides("lq", "gt", form="{side}_{n}.png"), "lq_{id}.png", "gt_{id}.png", "NAME"),
        (sides("NOISY", "GT", form="{n}_{side}_SRGB_0{n}.PNG"), "{id}_NOISY_{n}.PNG", "{id}_GT_{n}.PNG", "denoise"),
        ([f"hazy/level{k}/{n}.png" for k in range(3) for n in N] + [f"clear/{n}.png" for n in N],
         "hazy/*/{id}.png", "clear/{id}.png", "dehaze"),
    ],
)  # fmt: skip
def test_names_tell_the_pairs(tree, paths, lq, gt, task):
    found = propose(tree(paths))
    first = next(one for one in found.proposals if one.kind == "pairs")
    assert (first.options["lq"], first.options["gt"], first.options["task"]) == (lq, gt, task)
    assert (
        first.errors == 0 and first.rows == sum(path.startswith(lq[:2]) or "_" in lq[:6] for path in paths)
    ) or first.rows >= 5
    assert not any(one.kind == "photographs" for one in found.proposals)
    if task == "NAME":
        assert first.lacks_task
        assert propose(found.folder, {"task": "mine"}).proposals[0].options["task"] == "mine"


@pytest.mark.parametrize(
    ("paths", "options"),
    [
        ([f"{part}/{side}/{n}.png" for part in ("train", "Test") for side in ("noisy", "clean") for n in N],
         {"lq": "{split}/noisy/{id}.png", "gt": "{split}/clean/{id}.png", "task": "denoise", "split": "{split}"}),
        ([f"{scene}/{side}/{n}.png" for scene in ("s1", "s2", "s3") for side in ("blur", "sharp") for n in N],
         {"lq": "{scene}/blur/{id}.png", "gt": "{scene}/sharp/{id}.png", "task": "deblur", "group": "{scene}"}),
        ([f"train/{side}/{n}.png" for side in ("blur", "sharp") for n in N],
         {"lq": "train/blur/{id}.png", "gt": "train/sharp/{id}.png", "task": "deblur", "split": "train"}),
        ([f"{part}/{side}/{n}.png" for part in ("train", "val") for side in ("blur", "sharp") for n in N],
         {"lq": "{part}/blur/{id}.png", "gt": "{part}/sharp/{id}.png", "task": "deblur"}),
        ([f"HR/{n}.png" for n in N] + [f"LR/X2/{n}x2.png" for n in N],
         {"lq": "LR/X2/{id}x2.png", "gt": "HR/{id}.png", "task": "sr", "subtask": "x2"}),
    ],
)  # fmt: skip
def test_splits_scenes_and_scales(tree, paths, options):
    (first, *_) = propose(tree(paths)).proposals
    assert dict(first.options) == options
    assert first.rows == sum(Pattern(options["lq"]).match(path) is not None for path in paths)


def test_a_layout_with_evidence_goes_first(tree):
    lol = [f"our485/{side}/{n}.png" for side in ("low", "high") for n in N]
    assert propose(tree(lol)).proposals[0].options == {"layout": "LOL"}
    plain = propose(tree(sides("input", "target"), "plain"))
    assert plain.proposals[0].kind == "pairs"
    assert {one.options["layout"] for one in plain.proposals[1:]} >= {"HQ-NightRain", "RS-Cloud"}
    named = propose(tree(sides("input", "target"), "HQ-NightRain"))
    assert named.proposals[0].options == {"layout": "HQ-NightRain"}


def test_photographs_alone(tree):
    (only,) = propose(tree([f"trip/IMG_{n}.jpg" for n in N] + ["a.JPG"])).proposals
    assert (only.kind, dict(only.options), only.rows) == ("photographs", {"gt": "**/{id}.jpg", "task": "clean"}, 6)
    doubtful = propose(tree(sides("foo", "bar"), "two"))
    assert "equal names" in doubtful.proposals[0].note
    with pytest.raises(UserError, match=r"equal names.*--choose 1"):
        doubtful.clear()


@pytest.mark.parametrize(
    "paths", [sides("noisy"), sides("noisy", "denoised"), sides("LRx4"), [f"{n}_blurry.png" for n in N]]
)
def test_degraded_images_alone_are_not_clean(tree, paths):
    with pytest.raises(UserError, match=r"tell no pairs .*--lq, --gt and --task"):
        propose(tree(paths))


def test_the_letters_a_and_b_are_not_trusted(tree):
    found = propose(tree(sides("trainA", "trainB")), {"task": "underwater"})
    assert found.proposals[0].rows == 5
    with pytest.raises(UserError, match="A and B do not tell"):
        found.clear()


def test_several_datasets_in_one_folder(tree):
    paths = [f"one/{path}" for path in sides("hazy", "clear")] + [f"two/{path}" for path in sides("blur", "sharp")]
    found = propose(tree([*paths, *sides("photos"), "one/notes/noisy.png"]))
    assert [one.options.get("task") for one in found.proposals] == ["dehaze", "deblur", "clean"]
    assert found.rest == ("one/notes/noisy.png",)
    with pytest.raises(UserError, match=r"not the only one .also 2, 3.: choose by --choose N"):
        found.clear()
    with pytest.raises(UserError, match="there are proposals 1 to 3"):
        found.chosen(4)


def test_nothing_is_run_in_silence(command, hazy, tmp_path):
    out = tmp_path / "m"
    code, said, err = command("curate", "ingest", hazy, "-o", out)
    assert code == 2 and not out.exists()
    assert "1. pairs by name: 12 pairs, task dehaze" in said and "hazy/0_1.jpg + clear/0.png" in said
    assert f"curate ingest {hazy} --lq 'hazy/{{id}}_*.jpg' --gt 'clear/{{id}}.png' --task dehaze -o {out}" in said
    assert err.count("\n") == 1 and "--yes or --choose N" in err
    code, _, err = command("curate", "ingest", hazy, "-o", out, "--yes", "--subtask", "mine")
    assert code == 0 and "runs 1: curate ingest" in err
    done = table.read(str(out))
    assert done.rows["kept"] == 12 and set(done.table().column("subtask").to_pylist()) == {"mine"}
    code, said, _ = command("curate", "ingest", hazy, "--choose", "1", "--dry-run")
    assert code == 0 and "dehaze" in said
    code, _, err = command("curate", "ingest", hazy, "--choose", "9", "-o", tmp_path / "n")
    assert code == 2 and "there are proposals 1 to" in err
    code, _, err = command("curate", "ingest", hazy, "--gt", "clear/{id}.png", "--task", "clean", "--yes")
    assert code == 2 and "--yes means nothing here" in err


def test_the_command_that_is_printed_runs(command, hazy, tmp_path):
    import shlex

    _, said, _ = command("curate", "ingest", hazy, "-o", tmp_path / "m")
    line = next(line.strip() for line in said.splitlines() if line.strip().startswith("curate ingest"))
    assert command(*shlex.split(line))[0] == 0
    assert table.read(str(tmp_path / "m")).rows["kept"] == 12


def test_yes_needs_a_task(command, photographs, save, tmp_path):
    for side in ("input", "target"):
        save(f"d/{side}/1.png", photographs["coffee"])
    code, said, err = command("curate", "ingest", tmp_path / "d", "--yes", "-o", tmp_path / "m")
    assert code == 2 and "--task NAME" in said and "give --task beside --yes" in err
    assert command("curate", "ingest", tmp_path / "d", "--yes", "--task", "derain", "-o", tmp_path / "m")[0] == 0
