"""Shards: what any WebDataset reader sees, what the index points at, the same bytes whatever happened on the way."""

import io
import json
import os
import signal
import subprocess
import sys
import tarfile

import fsspec
import numpy as np
import pyarrow as pa
import pytest
import webdataset
from PIL import Image, ImageCms, PngImagePlugin

from curate import scorers
from curate.filter import filter as filter_
from curate.merge import merge
from curate.retry import retry
from curate.score import score
from curate.shard import _extension, shard
from manifests import files, images, schema, table
from manifests.errors import UserError
from trainer.stream.index import open_index

STAGE = {"stage": "test", "version": 1, "params": {}, "inputs": []}


@pytest.fixture
def pairs(photographs, save, tmp_path):
    """pairs(n, **columns) -> path of a manifest of n real pairs: deblur in PNG, dehaze in JPEG and WebP."""

    def make(count=12, name="m", **columns):
        rows = []
        pictures = [pixels[:96, :128] for pixels in photographs.values()]
        for i in range(count):
            task, pixels = ("deblur", "dehaze")[i % 2], np.roll(pictures[i % len(pictures)], i, axis=1)
            lq = save(f"data/lq/{i}.{'png' if i % 2 == 0 else 'jpg'}", pixels // 2)
            gt = save(f"data/gt/{i}.{'png' if i % 2 == 0 else 'webp'}", pixels, lossless=True)
            split = ("train", "train", "ref", "test")[i // 2 % 4]
            rows.append(row_of(tmp_path / "data", task, lq, gt) | {"split": split})
        for column, values in columns.items():
            for row, value in zip(rows, values, strict=False):
                row[column] = value
        return write(tmp_path / name, rows, tmp_path / "data")

    return make


def row_of(root, task, lq, gt):
    row = {"dataset": "d", "task": task, "subtask": "", "group": f"d/{gt.stem}", "scale": 1}
    row |= {"lq_path": str(lq.relative_to(root)), "gt_path": str(gt.relative_to(root)), "decisions": []}
    row["pair_id"] = schema.pair_id("d", task, "", row["lq_path"], row["gt_path"])
    for prefix, sha, path in (("lq.", "lq.sha256", lq), ("", "gt_sha256", gt)):
        data = path.read_bytes()
        image = images.decode(data)
        row |= {sha: images.sha256(data), f"{prefix}width": image.width, f"{prefix}height": image.height}
    return row


def write(path, rows, root):
    extra = sorted({name for row in rows for name in row} - set(schema.CORE))
    kinds = {n: k for n, k in schema.CORE.items() if n != "status"}
    columns = {name: pa.array([row.get(name) for row in rows], kinds.get(name)) for name in [*kinds, *extra]}
    table.write(str(path), pa.table(columns), roots={"d": str(root)}, stages=[STAGE])
    return str(path)


def tree(folder):
    """Relative path -> digest of every file below a folder, hidden ones as well; run.jsonl has times."""
    names = [(base, name) for base, _, found in os.walk(folder) for name in found]
    paths = [os.path.join(base, name) for base, name in names if name != "run.jsonl"]
    return {os.path.relpath(path, folder): images.sha256(files.read(path)) for path in paths}


def tars(folder):
    return sorted(name for name in tree(folder) if name.endswith(".tar"))


def test_webdataset_reads_any_shard(pairs, tmp_path):
    done = shard(pairs(), str(tmp_path / "s"), samples_per_shard=2)
    assert tars(done.path) == [
        "ref/deblur-00000.tar", "ref/dehaze-00000.tar", "test/deblur-00000.tar", "test/dehaze-00000.tar",
        "train/deblur-00000.tar", "train/deblur-00001.tar", "train/dehaze-00000.tar", "train/dehaze-00001.tar",
    ]  # fmt: skip
    rows = {row["pair_id"]: row for row in done.table().to_pylist()}
    seen = set()
    for name in tars(done.path):
        for sample in webdataset.WebDataset(f"{done.path}/{name}", shardshuffle=False).decode("pil"):
            row = rows[sample["__key__"]]
            seen.add(row["pair_id"])
            assert row["shard"] == name == f"{row['split']}/{row['task']}-{name[-9:]}"
            names = {key for key in sample if not key.startswith("__")}
            expected = {"lq.png", "gt.png", "json"} if row["task"] == "deblur" else {"lq.jpg", "gt.webp", "json"}
            assert names == expected
            for side in ("lq", "gt"):
                picture = next(sample[n] for n in names if n.startswith(side))
                stored = images.decode((tmp_path / "data" / row[f"{side}_path"]).read_bytes()).pixels
                assert np.array_equal(np.asarray(picture), stored)
            assert sample["json"]["task"] == row["task"]
            assert sample["json"]["group"] == row["group"]
    assert seen == set(rows)


def test_the_index_is_one_pread_away(pairs, tmp_path):
    done = shard(pairs(), str(tmp_path / "s"))
    for row in done.table().to_pylist():
        with open(f"{done.path}/{row['shard']}", "rb") as file:
            sample = os.pread(file.fileno(), row["sample_size"], row["sample_offset"])
            for side in ("lq", "gt"):
                data = os.pread(file.fileno(), row[f"{side}_size"], row[f"{side}_offset"])
                assert data == (tmp_path / "data" / row[f"{side}_path"]).read_bytes()
        assert len(sample) == row["sample_size"]
        assert row["sample_size"] % 512 == 0
        with tarfile.open(fileobj=io.BytesIO(sample)) as tar:  # the span is a tar of its own
            assert [name.split(".", 1)[0] for name in tar.getnames()] == [row["pair_id"]] * 3
    kinds = {f.name: str(f.type) for f in done.table().schema}
    assert {kinds[n] for n in ("sample_offset", "sample_size", "lq_offset", "lq_size", "gt_offset", "gt_size")} == {
        "int64"
    }


def test_python_and_the_index_agree_and_headers_are_bare(pairs, tmp_path):
    done = shard(pairs(), str(tmp_path / "s"))
    rows = {row["pair_id"]: row for row in done.table().to_pylist()}
    for name in tars(done.path):
        with tarfile.open(f"{done.path}/{name}", "r:") as tar:
            members = tar.getmembers()
        for member in members:
            assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")
            assert member.mode == 0o644
            key, side, *_ = member.name.split(".")
            if side != "json":
                assert (member.offset_data, member.size) == (rows[key][f"{side}_offset"], rows[key][f"{side}_size"])
            else:
                row = rows[key]
                assert member.offset_data + -(-member.size // 512) * 512 == row["sample_offset"] + row["sample_size"]
        first = members[0].name.split(".")[0]
        assert rows[first]["sample_offset"] == 0
        assert os.path.getsize(f"{done.path}/{name}") % tarfile.RECORDSIZE == 0


def test_gnu_tar_lists_it(pairs, tmp_path):
    done = shard(pairs(), str(tmp_path / "s"))
    listed = subprocess.run(["tar", "-tf", f"{done.path}/ref/deblur-00000.tar"], capture_output=True, check=True)
    assert len(listed.stdout.split()) == 3
    assert not listed.stderr


def test_files_of_whole_blocks_are_not_padded(pairs, tmp_path):
    path = pairs(4)
    rows = table.read(path).table().to_pylist()
    for row in rows:
        for side, sha in (("lq", "lq.sha256"), ("gt", "gt_sha256")):
            place = tmp_path / "data" / row[f"{side}_path"]
            data = place.read_bytes()
            place.write_bytes(data + bytes(-len(data) % 512))  # decoders stop at the end of the image
            row[sha] = images.sha256(place.read_bytes())
    done = shard(write(tmp_path / "n", rows, tmp_path / "data"), str(tmp_path / "s"))
    assert {row["gt_size"] % 512 for row in done.table().to_pylist()} == {0}
    for name in tars(done.path):
        with tarfile.open(f"{done.path}/{name}") as tar:
            assert len(tar.getnames()) == 6


def test_json_holds_the_facts_that_are_known(pairs, tmp_path):
    path = pairs(4, caption=["a photograph"], **{"iqa.piqe": [12.5, None], "judge.odd": [float("nan")]})
    done = shard(path, str(tmp_path / "s"))
    row = done.table().to_pylist()[0]
    with tarfile.open(f"{done.path}/{row['shard']}") as tar:
        text = tar.extractfile(f"{row['pair_id']}.json").read()
    facts = json.loads(text)
    assert list(facts) == sorted(facts)
    assert facts["caption"] == "a photograph"
    assert facts["iqa.piqe"] == 12.5
    assert facts["width"] == 128
    assert facts["scale"] == 1
    assert not {"decisions", "status", "shard", "license", "judge.odd"} & set(facts)


def oriented():
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif.tobytes()


def late_exif(data):
    """The PNG with its eXIf chunk moved behind the pixels, where Pillow sees it only after decoding."""
    start = data.index(b"eXIf") - 4
    size = int.from_bytes(data[start : start + 4], "big") + 12
    chunk, rest = data[start : start + size], data[:start] + data[start + size :]
    end = rest.index(b"IEND") - 4
    return rest[:end] + chunk + rest[end:]


@pytest.fixture
def kinds(photographs, as_bytes):
    """Name -> (file, extension in the shard, whether its bytes stay)."""
    photo = photographs["chelsea"][:64, :80]
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "a cat")
    cmyk = io.BytesIO()
    Image.fromarray(photo).convert("CMYK").save(cmyk, "JPEG")
    gray = photo[..., 0]
    return {
        "jpeg": (as_bytes(photo, "JPEG"), "jpg", True),
        "png": (as_bytes(photo, "PNG", pnginfo=text), "png", True),
        "webp": (as_bytes(photo, "WEBP"), "webp", True),
        "gray": (as_bytes(gray, "PNG"), "png", True),
        "png16": (images.encode_png(photo.astype(np.uint16) * 257), "png", True),
        "upright exif": (as_bytes(photo, "JPEG", exif=Image.Exif().tobytes()), "jpg", True),
        "srgb profile": (
            as_bytes(photo, "PNG", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()),
            "png",
            True,
        ),
        "turned": (as_bytes(photo, "JPEG", exif=oriented()), "png", False),
        "turned png": (as_bytes(photo, "PNG", exif=oriented()), "png", False),
        "turned late": (late_exif(as_bytes(photo, "PNG", exif=oriented())), "png", False),
        "turned webp": (as_bytes(photo, "WEBP", exif=oriented()), "png", False),
        "cmyk": (cmyk.getvalue(), "png", False),
        "tiff": (as_bytes(photo, "TIFF"), "png", False),
        "bmp": (as_bytes(photo, "BMP"), "png", False),
    }


def test_what_needs_conversion_becomes_png_and_the_rest_is_copied(kinds, photographs, save, tmp_path):
    rows = []
    gt = save("data/gt.png", photographs["chelsea"][:64, :80])
    for name, (data, _, _) in kinds.items():
        lq = tmp_path / "data" / f"{name.replace(' ', '-')}.img"
        lq.write_bytes(data)
        rows.append(row_of(tmp_path / "data", "deblur", lq, gt) | {"split": "train"})
    done = shard(write(tmp_path / "m", rows, tmp_path / "data"), str(tmp_path / "s"))
    assert done.rows["error"] == 0
    for row, (name, (data, extension, stays)) in zip(done.table().to_pylist(), kinds.items(), strict=True):
        with tarfile.open(f"{done.path}/{row['shard']}") as tar:
            stored = tar.extractfile(f"{row['pair_id']}.lq.{extension}").read()
        assert (stored == data) == stays, name
        decoded = images.decode(stored)
        assert np.array_equal(decoded.pixels, images.decode(data).pixels), name
        assert not decoded.converted, f"{name}: a plain decoder must show it as it is"


def test_the_short_way_never_disagrees_with_decoding(kinds):
    short = {name: _extension(data) for name, (data, _, _) in kinds.items()}
    assert {n for n, found in short.items() if found} == {"jpeg", "png", "webp", "gray", "png16"}
    for name, (data, extension, _) in kinds.items():
        if short[name]:
            assert short[name] == extension
            assert not images.decode(data).converted


def test_only_kept_pairs_of_a_split_are_in_a_shard(pairs, tmp_path):
    bad = [schema.decision("filter", "min:x", "drop", "bad")]
    path = pairs(8, decisions=[bad], split=["train", None, "train"], lq_path=["lq/0.png", "lq/1.jpg", None])
    done = shard(path, str(tmp_path / "s"))
    before, after = table.read(path).table().to_pylist(), done.table().to_pylist()
    assert [row["shard"] is None for row in after] == [True] * 3 + [False] * 5
    for old, new in zip(before, after, strict=True):
        assert {name: new[name] for name in old} == old
    assert done.rows == {"rows": 8, "kept": 7, "dropped": 1, "error": 0}


def test_a_changed_or_missing_file_is_an_error_row_and_the_run_goes_on(pairs, tmp_path):
    path = pairs(8)
    (tmp_path / "data/lq/0.png").unlink()
    with open(tmp_path / "data/gt/1.webp", "ab") as file:
        file.write(b"!")
    done = shard(path, str(tmp_path / "s"))
    rows = done.table().to_pylist()
    assert done.rows["error"] == 2
    assert [row["status"] for row in rows[:3]] == ["error", "error", "kept"]
    texts = [row["decisions"][0]["text"] for row in rows[:2]]
    assert texts == ["lq/0.png: No such file or directory", "gt/1.webp: has changed since ingest"]
    assert rows[0]["decisions"][0]["stage"] == "shard"
    assert rows[0]["shard"] is None
    assert rows[0]["lq_offset"] is None
    assert rows[2]["shard"] == "train/deblur-00000.tar" or rows[2]["split"] != "train"
    keys = set()
    for name in tars(done.path):
        with tarfile.open(f"{done.path}/{name}") as tar:
            keys |= {member.split(".")[0] for member in tar.getnames()}
    assert keys == {row["pair_id"] for row in rows[2:]}


def test_a_shard_without_a_sample_is_not_written(pairs, tmp_path):
    path = pairs(8)
    for i in (4, 5):  # all of D_ref
        (tmp_path / f"data/lq/{i}.{'png' if i % 2 == 0 else 'jpg'}").unlink()
    done = shard(path, str(tmp_path / "s"))
    assert tars(done.path) == [f"{s}/{t}-00000.tar" for s in ("test", "train") for t in ("deblur", "dehaze")]


def test_the_size_cap_is_decided_from_the_manifest(pairs, tmp_path):
    one = 2 * 3 * 96 * 128
    done = shard(pairs(16), str(tmp_path / "s"), max_size=2 * one)
    found = done.table(["split", "task", "shard"]).to_pylist()
    sizes = {name: sum(row["shard"] == name for row in found) for name in tars(done.path)}
    assert sizes["train/deblur-00000.tar"] == 2
    assert sizes["train/deblur-00001.tar"] == 2
    assert len(tars(shard(pairs(16, "n"), str(tmp_path / "t"), max_size=1).path)) == 16, "one pair is always taken"


def test_strange_task_names_do_not_collide(pairs, tmp_path):
    done = shard(pairs(4, task=["a/b", "a_b", "a b", "a.b"]), str(tmp_path / "s"))
    assert tars(done.path) == sorted(f"train/{n}-00000.tar" for n in ("a%2Fb", "a_b", "a%20b", "a.b"))


def test_workers_and_repetition_give_the_same_bytes(pairs, tmp_path):
    path = pairs()
    one = tree(shard(path, str(tmp_path / "a"), samples_per_shard=2).path)
    assert one == tree(shard(path, str(tmp_path / "b"), samples_per_shard=2, workers=2).path)
    assert not [name for name in one if name.startswith(".")], "nothing but the result is left"


KILL = """
import os, signal, sys
from curate import shard as module
calls, append = 0, module._append
def killing(*args):
    global calls
    calls += 1
    if calls == int(sys.argv[4]):
        args[0].flush()
        os.kill(os.getpid(), signal.SIGKILL)
    return append(*args)
module._append = killing
module.shard(sys.argv[1], sys.argv[2], samples_per_shard=int(sys.argv[3]))
"""


def killed(path, output, per_shard, at):
    command = [sys.executable, "-c", KILL, path, output, str(per_shard), str(at)]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_killed_and_started_again_ends_in_the_same_bytes(pairs, tmp_path):
    path = pairs()
    whole = tree(shard(path, str(tmp_path / "whole"), samples_per_shard=2).path)
    for at in (2, 17):  # within the first sample, and after some tars stand
        killed(path, str(tmp_path / "killed"), 2, at)
    assert not (tmp_path / "killed/manifest.json").exists()
    assert tree(shard(path, str(tmp_path / "killed"), samples_per_shard=2).path) == whole


def test_what_an_unfinished_run_with_other_parameters_left_is_removed(pairs, tmp_path):
    path = pairs()
    whole = tree(shard(path, str(tmp_path / "whole")).path)
    killed(path, str(tmp_path / "killed"), 1, 31)  # one pair a tar: names that the next run does not have
    (tmp_path / "killed/train").mkdir(exist_ok=True)
    (tmp_path / "killed/train/mine-00000.tar").write_bytes(b"not of any run")
    again = tree(shard(path, str(tmp_path / "killed")).path)
    assert again.pop("train/mine-00000.tar"), "what is not ours stays"
    assert again == whole


def test_a_bucket_holds_the_same_shards(pairs, tmp_path):
    path = pairs(8)
    here, there = shard(path, str(tmp_path / "s")), shard(path, "memory://bucket/s")
    fs = fsspec.filesystem("memory")
    assert sorted(name for name in fs.find("/bucket/s") if name.endswith(".tar")) == [
        f"/bucket/s/{name}" for name in tars(here.path)
    ]
    for name in tars(here.path):
        assert fs.cat(f"/bucket/s/{name}") == (tmp_path / "s" / name).read_bytes()
    assert there.table().equals(here.table())
    assert not fs.exists("/bucket/s/.shards.json")


def test_refusals(pairs, tmp_path):
    with pytest.raises(UserError, match="run 'curate split"):
        shard(pairs(4, split=[None] * 4), str(tmp_path / "s"))
    path = pairs(4, "n")
    with pytest.raises(UserError, match="1 or more") as caught:
        shard(path, str(tmp_path / "s"), samples_per_shard=0)
    assert caught.value.exit_code == 2
    shard(path, str(tmp_path / "s"))
    with pytest.raises(UserError, match="exists already"):
        shard(path, str(tmp_path / "s"))


def test_large_training_pairs_are_cut_into_tiles(pairs, photographs, save, tmp_path):
    root = tmp_path / "large"
    rows = []
    for number, split in enumerate(("train", "train", "test")):
        gt = np.tile(list(photographs.values())[number], (2, 2, 1))[: 300 + 2 * number, :700]
        lq = np.ascontiguousarray(gt[::2, ::2])
        lq_path = save(f"large/lq/{number}.jpg" if number else "large/lq/0.png", lq)
        rows.append(row_of(root, "sr", lq_path, save(f"large/gt/{number}.png", gt)) | {"split": split, "scale": 2})
    small = save("large/s.png", photographs["astronaut"][:96, :96])
    rows.append(row_of(root, "denoise", small, small) | {"split": "train"})
    source = write(tmp_path / "m", rows, root)
    done = shard(source, str(tmp_path / "s"), tile=256, overlap=64, samples_per_shard=7)
    out = done.table().to_pylist()
    per_pair = 2 * 4  # starts 0, 44 and 0, 192, 384, 444
    assert [row["tile_top"] is not None for row in out] == [True] * 2 * per_pair + [False, False]
    assert [(row["tile_top"], row["tile_left"]) for row in out[:8]] == [
        (top, left) for top in (0, 44) for left in (0, 192, 384, 444)
    ]
    assert len({row["pair_id"] for row in out}) == len(out) and len({row["group"] for row in out}) == 4
    assert {(row["width"], row["height"], row["lq.width"], row["lq.height"]) for row in out[:16]} == {
        (256, 256, 128, 128)
    }
    assert tars(done.path) == [
        "test/sr-00000.tar",
        "train/denoise-00000.tar",
        "train/sr-00000.tar",
        "train/sr-00001.tar",
    ]
    for row in out[:16]:
        whole = images.decode((root / row["gt_path"]).read_bytes()).pixels
        whole_lq = images.decode((root / row["lq_path"]).read_bytes()).pixels
        top, left = row["tile_top"], row["tile_left"]
        data = {side: files.read(files.join(done.path, row["shard"]), row[f"{side}_offset"], row[f"{side}_size"])
                for side in ("lq", "gt")}  # fmt: skip
        assert images.sha256(data["gt"]) == row["gt_sha256"] and images.sha256(data["lq"]) == row["lq.sha256"]
        np.testing.assert_array_equal(images.decode(data["gt"]).pixels, whole[top : top + 256, left : left + 256])
        part = whole_lq[top // 2 : top // 2 + 128, left // 2 : left // 2 + 128]
        np.testing.assert_array_equal(images.decode(data["lq"]).pixels, part)
    (first, *_) = webdataset.WebDataset(str(tmp_path / "s/train/sr-00000.tar"), shardshuffle=False).decode("rgb8")
    assert first["__key__"] == f"{rows[0]['pair_id']}-000" and first["json"]["width"] == 256
    assert shard(source, str(tmp_path / "s2"), tile=256, overlap=64, samples_per_shard=7, workers=2).rows == done.rows
    assert {k: v for k, v in tree(tmp_path / "s").items() if k.endswith("tar")} == {
        k: v for k, v in tree(tmp_path / "s2").items() if k.endswith("tar")
    }
    (root / rows[0]["lq_path"]).write_bytes(b"changed")
    broken = shard(source, str(tmp_path / "s3"), tile=256, overlap=64)
    assert broken.rows["error"] == 1 and broken.rows["rows"] == len(out) - per_pair + 1
    with pytest.raises(UserError, match="multiples of 2"):
        shard(source, str(tmp_path / "s4"), tile=255, overlap=64)
    with pytest.raises(UserError, match="less than the tile"):
        shard(source, str(tmp_path / "s4"), tile=64, overlap=64)


def test_later_stages_read_the_tars_and_hand_their_place_on(pairs, photographs, save, tmp_path):
    root, rows = tmp_path / "large", []
    for number, pixels in enumerate(list(photographs.values())[:2]):
        gt = np.ascontiguousarray(pixels[:160, :200])
        paths = [save(f"large/{side}/{number}.bmp", part) for side, part in (("lq", gt // 2), ("gt", gt))]
        rows.append(row_of(root, "low_light", *paths) | {"split": "train"})
    rows.append(row_of(root, "low_light", *[save(f"large/{s}/s.jpg", gt[:96, :96]) for s in ("lq", "gt")]))
    rows[-1]["split"] = "train"
    done = shard(write(tmp_path / "m", rows, root), str(tmp_path / "s"), tile=128, overlap=64)
    os.rename(root, tmp_path / "gone")  # what is in the tars is all there is

    scored = score(done.path, str(tmp_path / "elsewhere" / "scored"))
    assert scored.rows["kept"] == len(scored.table()) == 13
    first = scored.table().to_pylist()[0]
    with tarfile.open(tmp_path / "s" / first["shard"]) as tar:
        member = tar.extractfile(tar.getnames()[1])
        tile = images.decode(member.read()).pixels
    expected, _ = scorers.measure(tile, scorers.Request(("noise_sigma",)))
    assert first["iqa.noise_sigma"] == pytest.approx(expected["iqa.noise_sigma"])

    filtered = filter_(scored.path, str(tmp_path / "filtered"), drop_worst={"noise_sigma": 20})
    assert filtered.rows["dropped"] == 2 and filtered.info["roots"][table.SHARDS] == "../s"
    index = open_index(filtered.path)
    assert len(index.rows) == 11 and index.rows[0].gt.url == str(tmp_path / "s" / first["shard"])
    again = shard(filtered.path, str(tmp_path / "again"))
    assert table.SHARDS not in again.info["roots"] and again.rows["kept"] == 11
    sizes = [row["sample_size"] for row in again.table().to_pylist() if row["status"] == "kept"]
    assert all(sizes) and open_index(again.path).rows[0].gt.url.startswith(str(tmp_path / "again"))
    with pytest.raises(UserError, match="is in shards, as an earlier manifest is in others"):
        merge([done.path, again.path], str(tmp_path / "merged"))

    tar = tmp_path / "s" / first["shard"]
    whole = tar.read_bytes()
    tar.write_bytes(b"x" * 700)
    short = score(done.path, str(tmp_path / "short"), max_errors="100%")
    assert short.rows["error"] == 13 and "is cut off" in short.table().to_pylist()[0]["decisions"][-1]["text"]
    tar.write_bytes(whole)
    again = retry(short.path, str(tmp_path / "retried"))  # a tile stays one: it is not read from its pair's files
    assert again.table().select(done.column_names).equals(done.table())
