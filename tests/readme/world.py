"""All files that the examples of `--help` name, made once; an example gets copies of those that it names."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from curate.degrade import degrade
from curate.filter import filter as filter_
from curate.identify import identify
from curate.ingest import ingest
from curate.judge import export
from curate.merge import merge
from curate.shard import shard
from curate.split import split
from manifests import schema, table
from tests.readme.trees import alone, haze, one_gt_many_lqs, photographs, save, two_folders

PAIRS = {"lq": "hazy/{id}_*.jpg", "gt": "clear/{id}.png", "task": "dehaze"}
LINKED = ("data", "photos", "files", "synthetic")  # folders of images are the same for all, everything else is copied
TASKS = ("deblur", "dehaze", "denoise", "sr")


def build(root: Path) -> Path:
    """The world in `root`/world; manifests lie side by side, with their images in data/ and photos/."""
    world = root / "world"
    world.mkdir()
    squares = photographs()
    _images(world, squares)
    _manifests(world)
    _tables(world)
    return world


def place(world: Path, folder: Path, names: Sequence[str]) -> None:
    """Put those of the world's files that are named into `folder`."""
    folder.mkdir()
    for name in LINKED:
        (folder / name).symlink_to(world / name)
    for name in dict.fromkeys(names):
        source, target = world / name, folder / name
        if name.split("/")[0] in LINKED or not name or not source.exists() or target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True)
        else:
            shutil.copy(source, target)


def _images(world: Path, squares: list) -> None:
    one_gt_many_lqs(world / "data/mine", squares[:14])
    two_folders(world / "data/two", squares[14:28])
    alone(world / "photos", squares[28:40], "png")
    alone(world / "data/benchmarks", squares[40:44], "png")
    for number, pixels in enumerate(squares[44:50]):
        for folder in ("SOTS", "unknown"):
            save(world / f"data/{folder}/outdoor/gt/{number:04d}.png", pixels)
            save(world / f"data/{folder}/outdoor/hazy/{number:04d}_0.8_0.1.jpg", haze(pixels, 1), quality=95)
        save(world / f"data/Urban100/HR/img_{number:03d}.png", pixels[:127, :126])
        save(world / f"data/Urban100/LRx4/img_{number:03d}x4.png", pixels[:124:4, :124:4])
    save(world / "photo.jpg", squares[50])
    save(world / "files/large.png", np.tile(squares[51], (6, 6, 1)))


def _manifests(world: Path) -> None:
    """manifest has 3f2a among its ids, all musiq scores, and no splits; the others are made of it or lie beside it."""

    def at(name: str) -> str:
        return str(world / name)

    _name_3f2a(world)
    made = ingest(at("data/mine"), at("made"), dataset="mine", score=["signals"], **PAIRS)
    clean = ingest(at("photos"), at("clean"), gt="{id}.png", task="clean", dataset="photos")
    pairs = degrade(clean.path, at("synthetic"), tasks=["deblur", "sr:x2"], crop=96)
    both = merge([made.path, pairs.path], at("both"))
    rows = both.table()
    scores = pa.array(np.random.default_rng(0).uniform(30, 80, rows.num_rows))
    known = rows.append_column("iqa.musiq", scores)
    table.write(at("manifest"), known, roots=both.roots, stages=both.stages)
    table.write(at("merged"), known, roots=both.roots, stages=both.stages)
    filter_(at("manifest"), at("manifest-filter"), maximum={"piqe": 95})
    own = rows.append_column("user.aesthetics", pa.array([4.0 + i % 3 for i in range(rows.num_rows)]))
    table.write(at("manifest-join"), own, roots=both.roots, stages=both.stages)
    filter_(at("manifest"), at("strict"), minimum={"entropy": 6})
    filter_(at("manifest"), at("loose"), minimum={"entropy": 3})
    split(at("manifest"), at("manifest-split"), ref=4, test=2)
    shard(at("manifest-split"), at("shards"))
    for name in ("sots", "rain100l", "benchmarks"):
        folder, how = ("data/benchmarks", {"gt": "{id}.png", "task": "clean"})
        if name == "sots":
            folder, how = "data/SOTS", {"layout": "SOTS"}
        ingest(at(folder), at(name), dataset=name, **how)
    ingest(at("data/mine"), at("mine"), dataset="mine", **PAIRS)
    rainy = ingest(at("data/two"), at("two"), lq="input/{id}.png", gt="target/{id}.png", task="derain")
    split(rainy.path, at("two-split"), ref=4, test=2)
    shard(at("two-split"), at("underwater"))
    _megapixels(world)
    identify(at("mine"), at("judged"))
    export(at("manifest"), at("tasks-made.json"))


def _name_3f2a(world: Path) -> None:
    """Rename one photograph so that the id of its pair begins with 3f2a, as the example of `curate explain` says."""
    for number in range(1 << 20):
        lq, gt = f"hazy/x{number}_1.jpg", f"clear/x{number}.png"
        if schema.pair_id("mine", "dehaze", "", lq, gt).startswith("3f2a"):
            break
    folder = world / "data/mine"
    for old, new in (("clear/0003.png", gt), ("hazy/0003_1.jpg", lq), ("hazy/0003_2.jpg", lq.replace("_1", "_2"))):
        (folder / old).rename(folder / new)


def _megapixels(world: Path) -> None:
    """8-megapixels: pairs that are larger than a tile, split; and a manifest with a row that can be read again."""
    folder = world / "data/large"
    large = np.tile(photographs()[52], (6, 6, 1))
    rng = np.random.default_rng(0)
    for number in range(4):
        pixels = np.ascontiguousarray(np.roll(large, 31 * number, axis=1))
        save(folder / f"gt/{number}.png", pixels)
        noisy = np.clip(pixels + rng.normal(0, 20, pixels.shape), 0, 255).astype(np.uint8)
        save(folder / f"lq/{number}.png", noisy)
    made = ingest(str(folder), str(world / "l"), lq="lq/{id}.png", gt="gt/{id}.png", task="denoise", max_errors="100%")
    rows = made.table()
    names = ["train"] * (rows.num_rows - 2) + ["ref", "test"]
    rows = schema.set_column(schema.set_column(rows, "split", names), "decisions", [[]] * rows.num_rows)
    table.write(str(world / "8-megapixels"), rows, roots=made.roots, stages=made.stages)
    damaged = world / "data/damaged/000.png"
    alone(world / "data/damaged", photographs()[53:57], "png")
    whole = damaged.read_bytes()
    damaged.write_bytes(b"broken")
    ingest(str(world / "data/damaged"), str(world / "with-errors"), gt="{id}.png", task="clean")
    damaged.write_bytes(whole)


def _tables(world: Path) -> None:
    """CSV and JSON files of the examples, with rows that fit the manifests."""
    rows = table.read(str(world / "manifest")).table(["pair_id", "gt_sha256"]).to_pylist()
    lines = [f"{row['pair_id']},{4 + i % 3}" for i, row in enumerate(rows)]
    (world / "aesthetics.csv").write_text("pair_id,aesthetics\n" + "\n".join(lines) + "\n")
    said = {"pair_id": rows[0]["pair_id"], "verdict": "drop", "reviewer": "me", "time": 0}
    (world / "manifest-review.jsonl").write_text(json.dumps(said) + "\n")
    (world / "pairs.csv").write_text("lq,gt\nhazy/0001_1.jpg,clear/0001.png\nhazy/0002_1.jpg,clear/0002.png\n")
    (world / "consensus.yaml").write_text("keep:\n  even: iqa.entropy >= 2\n  clean: max(degradation.*) < 0.99\n")
    answers = [
        {"id": f"{row['gt_sha256']}:{kind}", "text": text}
        for row in rows
        for kind, text in (("distortion", "No distortion."), ("quality", "The quality is good."))
    ]
    (world / "answers.jsonl").write_text("\n".join(map(json.dumps, answers)) + "\n")
    scores = {task: 20.0 + number for number, task in enumerate(TASKS[:3])}
    (world / "scores.json").write_text(json.dumps(scores))
    (world / "step.csv").write_text("task,score\n" + "".join(f"{task},{score}\n" for task, score in scores.items()))
    history = [
        f"{k},{task},{20 + k * (1 + n) / 4}" for k in range(6) for n, task in enumerate(("deblur", "dehaze", "sr"))
    ]
    (world / "SCORES.csv").write_text("interval,task,score\n" + "\n".join(history) + "\n")
    _laws(world)
    (world / "my-recipe.yaml").write_text(
        "name: mine\nsteps:\n"
        "  - {name: clean, run: curate.ingest, with: {folder: data/benchmarks, gt: '{id}.png', task: clean}}\n"
        "  - {name: good, run: curate.filter, with: {manifest: '@clean', iqa: [entropy]}}\n"
    )


def _laws(world: Path) -> None:
    """Mixtures of four tasks, and scores that are a smooth function of them."""
    rng = np.random.default_rng(0)
    for prefix, count in (("", 40), ("later-", 12)):
        weights = rng.dirichlet(np.ones(len(TASKS)), count)
        psnr = 25 + 5 * weights**0.5 + 0.01 * rng.normal(size=weights.shape)
        for name, values, metric in (
            (f"{prefix}mixtures.csv", weights, ""),
            (f"{prefix}scores-law.csv", psnr, "psnr."),
            (f"{prefix}quality.csv", psnr, ""),
        ):
            rows = [f"{prefix}r{i}," + ",".join(f"{x:.8f}" for x in row) for i, row in enumerate(values)]
            columns = ",".join(f"{metric}{task}" for task in TASKS)
            (world / name).write_text(f"run,{columns}\n" + "\n".join(rows) + "\n")
    shutil.copy(world / "later-mixtures.csv", world / "candidates.csv")
