"""What --overwrite replaces, and what it never does."""

import os

import pyarrow as pa
import pytest

from manifests import outputs, schema, table
from manifests.errors import UserError


def write(path, name="a", stage="ingest"):
    """A manifest of one row, of a photograph called `name`."""
    row = {"pair_id": schema.pair_id("d", "t", "", "", name), "dataset": "d", "task": "t", "gt_path": name}
    rows = pa.Table.from_pylist([row | {"decisions": [], "status": "kept"}])
    stages = [table.stage_entry(stage, 1, {}, [])]
    return table.write(str(path), schema.conform(rows), roots={"d": str(path.parent / "data")}, stages=stages)


def names(manifest):
    return manifest.table(["gt_path"]).column("gt_path").to_pylist()


@pytest.fixture
def old(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    write(tmp_path / "m")
    return tmp_path / "m"


def test_the_old_output_stands_until_the_new_one_is_whole(old):
    with outputs.replacing(str(old)) as target:
        write(type(old)(target), "b")
        assert names(table.read(str(old))) == ["a"]
    new = table.read(str(old))
    assert names(new) == ["b"] and new.roots["d"] == str(old.parent / "data")
    assert sorted(os.listdir(old.parent)) == ["here", "m"]


def test_what_fails_leaves_the_old_output_and_nothing_else(old):
    with pytest.raises(UserError), outputs.replacing(str(old)) as target:
        os.makedirs(target)
        raise UserError("no")
    assert names(table.read(str(old))) == ["a"] and sorted(os.listdir(old.parent)) == ["here", "m"]


def test_interrupted_work_goes_on(old):
    with pytest.raises(KeyboardInterrupt), outputs.replacing(str(old)) as target:
        os.makedirs(f"{target}/.work")
        raise KeyboardInterrupt
    with outputs.replacing(str(old)) as again:
        assert again == target and os.path.isdir(f"{again}/.work")
        os.rmdir(f"{again}/.work")
        write(type(old)(again), "b")
    assert names(table.read(str(old))) == ["b"]


def test_an_unfinished_output_is_gone_on_with_in_its_place(tmp_path):
    (tmp_path / "m" / ".work").mkdir(parents=True)
    with outputs.replacing(str(tmp_path / "m")) as target:
        assert target == str(tmp_path / "m")


def test_a_link_stays_and_what_it_names_is_replaced(old):
    link = old.parent / "link"
    link.symlink_to(old)
    with outputs.replacing(str(link)) as target:
        write(type(old)(target), "b")
    assert link.is_symlink() and names(table.read(str(old))) == ["b"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda old: (old / "manifest.json").unlink(), "is no manifest"),
        (lambda old: (old / "manifest.json").write_text("{}"), "not of Equimix"),
        (lambda old: (old / "photo.jpg").write_bytes(b"x"), "holds 'photo.jpg'"),
        (lambda old: (old / "images" / "a").mkdir(parents=True) or (old / "images/a/b.png").touch(), "holds 'images"),
        (lambda old: (old / "train").mkdir() or (old / "train" / "x-00000.tar").touch(), r"holds 'train/x-00000\.tar'"),
        (lambda old: (old / "linked").symlink_to("/"), "holds 'linked'"),
        (os.chdir, "the working folder"),
    ],
)
def test_folders_of_others_are_refused(old, spoil, message):
    spoil(old)
    before = sorted(os.listdir(old))
    with pytest.raises(UserError, match=message), outputs.replacing(str(old)):
        pytest.fail("must not begin")
    assert sorted(os.listdir(old)) == before


def test_inputs_and_what_holds_them_are_refused(old, monkeypatch):
    for one in (str(old), str(old / "inner"), str(old.parent / "here" / ".." / "m")):
        with pytest.raises(UserError, match="is or holds the input"), outputs.replacing(str(old), inputs=[one]):
            pytest.fail("must not begin")
    monkeypatch.setenv("HOME", str(old))
    with pytest.raises(UserError, match="your home"), outputs.replacing(str(old)):
        pytest.fail("must not begin")
    with pytest.raises(UserError, match="the root"), outputs.replacing("/"):
        pytest.fail("must not begin")


def test_shards_and_degraded_images_are_part_of_their_manifests(tmp_path):
    write(tmp_path / "s", stage="shard")
    (tmp_path / "s" / "train").mkdir()
    (tmp_path / "s" / "train" / "low_light-00000.tar").touch()
    outputs.check_folder(str(tmp_path / "s"), outputs.MANIFEST)
    write(tmp_path / "d", stage="degrade")
    for name in ("gt/a-0123abcd-00.png", "sr/x4/a-0123abcd-00.png"):
        (tmp_path / "d" / "images" / name).parent.mkdir(parents=True)
        (tmp_path / "d" / "images" / name).touch()
    outputs.check_folder(str(tmp_path / "d"), outputs.MANIFEST)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("page.html", b"\x89PNG", "not what its suffix says"),
        ("table.parquet", b"interval,task", "not what its suffix says"),
        ("scores.json", b"\x00\x01", "not what its suffix says"),
        ("page.html", b"<!doctype html>", None),
        ("table.md", b"anything", None),
    ],
)
def test_files(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError, match="exists already; name another with -o, or replace it with --overwrite"):
        outputs.refuse_existing(str(path))
    if message:
        with pytest.raises(UserError, match=message):
            outputs.refuse_existing(str(path), overwrite=True)
    else:
        outputs.refuse_existing(str(path), overwrite=True)
        with outputs.replacing(str(path), kind=None) as target:
            assert os.path.splitext(target)[1] == os.path.splitext(name)[1]
            with open(target, "wb") as file:
                file.write(b"new")
        assert path.read_bytes() == b"new" and os.listdir(tmp_path) == [name]
    with pytest.raises(UserError, match="no plain file"):
        outputs.refuse_existing(str(tmp_path / "."), overwrite=True)


def test_a_manifest_is_not_written_into_a_folder_of_other_files(tmp_path):
    data = tmp_path / "data"
    (data / "clear").mkdir(parents=True)
    table.refuse_existing(str(data))
    (data / "clear" / "0.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"data: holds 'clear/0.png', which is no part of a manifest; name another"):
        table.refuse_existing(str(data))
    with pytest.raises(UserError, match="is no folder"):
        table.refuse_existing(str(data / "clear" / "0.png"))
    (data / ".work").mkdir()  # an interrupted stage goes on
    table.refuse_existing(str(data))
