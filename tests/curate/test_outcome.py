"""What stages say that they did: names, counts and examples, safe for a terminal."""

import re

import pytest

from manifests.table import read


@pytest.fixture
def chain(command, hazy, tmp_path, monkeypatch):
    """command, in a folder with the manifest `c` of clean photographs, two of them copies of the first."""
    monkeypatch.chdir(tmp_path)
    for name in ("copy.png", "a[b]\x1b[31mc.png"):
        (hazy / "clear" / name).write_bytes((hazy / "clear" / "0.png").read_bytes())
    code, _, err = command(
        "curate", "ingest", hazy, "--gt", "clear/{id}.png", "--task", "clean", "-o", "c", "--metric", "signals"
    )
    assert code == 0, err
    return command


def run(chain, *arguments):
    code, out, err = chain("curate", *arguments)
    assert code == 0, err
    assert out.replace("\n", "").isprintable()
    return out


def test_errors_are_named_and_control_characters_are_escaped(chain, hazy):
    for index in (1, 2):
        (hazy / "clear" / f"{index}.png").write_bytes(b"not an image")
    out = run(chain, "ingest", hazy, "--gt", "clear/{id}.png", "--lq", "hazy/{id}_*.jpg", "--task", "dehaze", "-o", "h")
    assert re.search(r"^  2 error by ingest/pair: clear/a\[b\]\\x1b\[31mc\.png, clear/copy\.png$", out, re.MULTILINE)
    assert "4 error by ingest/unreadable: hazy/1_1.jpg, hazy/1_2.jpg, hazy/2_1.jpg, …\n" in out


def test_dedup_names_copies_and_what_is_kept(chain):
    out = run(chain, "dedup", "c", "-o", "d")
    assert out.startswith("2 copies dropped, in 1 cluster\n")
    assert len(re.findall(r"^  clear/\S+ is a copy of clear/\S+$", out, re.MULTILINE)) == 2


def test_split_shard_degrade_and_merge_say_what_they_did(chain):
    out = run(chain, "degrade", "c", "-o", "p", "--task", "denoise", "--task", "jpeg", "--crop", "64", "--crops", "2")
    made = re.match(r"(\d+) pairs made: denoise (\d+), jpeg (\d+)\n", out)
    assert made and int(made[1]) == int(made[2]) + int(made[3]) == 24
    out = run(chain, "split", "p", "-o", "s", "--ref", "2", "--test", "2")
    assert re.search(r"^\d+ groups: \d+ in ref, \d+ in test, \d+ in train\n", out, re.MULTILINE)
    heads, *rows = [line.split() for line in out[out.index("task ") :].splitlines()[:3]]
    assert heads == ["task", "D_ref", "test", "train", "in", "no", "split"]
    tasks = {name: [int(one) for one in cells if not one.startswith("(")] for name, *cells in rows}
    assert tasks["denoise"][0] == tasks["jpeg"][0] == 2 and sum(tasks["denoise"]) == 12
    out = run(chain, "shard", "s", "-o", "shards")
    assert re.match(r"6 tars, [\d.]+ [kM]B: ref 2 \(4 pairs, .*\), test 2 \(\d+ pairs, .*\), train 2 \(", out)
    out = run(chain, "merge", "c", "p", "-o", "m")
    assert out.startswith("8 rows of c, 32 rows of p; 8 were in an earlier one already\n")


def test_caption_and_filter_give_examples(chain):
    out = run(chain, "caption", "c", "-o", "t")
    assert re.match(r"captions: 8 by signals-\d+\n  clear/\S+: A .+\n  clear/\S+: A .+\n", out)
    out = run(chain, "filter", "c", "-o", "f", "--min", "contrast=1000")
    assert out.startswith("8 rows dropped by filter\n  clear/0.png: contrast ")
    assert "  8 drop by filter/min:contrast: clear/" in out


def test_decontaminate_names_the_test_images(chain):
    out = run(chain, "decontaminate", "c", "--against", "c", "-o", "x")
    assert out.startswith("8 pairs dropped for matching a test image\n  clear/0.png: its GT is a test image: ")


def test_identify_counts_what_it_found(chain, hazy):
    from PIL import Image

    Image.new("L", (64, 64), 8).save(hazy / "clear" / "0.png")
    out = run(chain, "ingest", hazy, "--gt", "clear/{id}.png", "--task", "clean", "-o", "dark")
    out = run(chain, "identify", "dark", "-o", "e")
    columns = [name for name in read("e").column_names if name.startswith("degradation.")]
    found = {
        name for part in read("e").parts(columns) for row in part.to_pylist() for name in columns if row[name] > 0.5
    }
    said = re.search(r"GTs; with a probability above 0\.5: (.*)$", out, re.MULTILINE)
    assert found and said and {one.rsplit(" ", 1)[0] for one in said[1].split(", ")} == {name[12:] for name in found}
