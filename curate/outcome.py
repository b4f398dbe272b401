"""What a stage did, in a line or two: read off the manifest that it wrote."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from manifests.table import Manifest

EXAMPLES = 3
SPLITS = ("ref", "test", "train")
LONGEST = 120  # characters of a caption that is shown


def lines(done: Manifest, sources: Sequence[Manifest] = ()) -> list[str]:
    """What the last stage of `done` did; empty for a stage that the table of rows says all about.

    sources: the manifests that were merged.
    """
    stage = done.stages[-1]["stage"]
    if stage == "merge":
        return _merge(done, sources)
    makers: dict[str, Callable[[Manifest], list[str]]] = {
        "ingest": _ingest, "split": _split, "dedup": _dedup, "caption": _caption, "decontaminate": _decontaminate,
        "shard": _shard, "degrade": _degrade, "filter": _filter, "score": _score, "identify": _identify,
    }  # fmt: skip
    return makers[stage](done) if stage in makers else []


def _ingest(done: Manifest) -> list[str]:
    from curate import groups

    params = done.stages[-1]["params"]
    return [groups.describe(params["groups"])] if "groups" in params else []


def _split(done: Manifest) -> list[str]:
    import pyarrow.compute as pc

    from curate.groups import describe

    groups: dict[str, set[str]] = {}
    for part in done.parts(["group", "pair_id", "status", "split"]):
        kept = part.filter(pc.equal(part.column("status"), "kept"))
        names = pc.coalesce(kept.column("group"), kept.column("pair_id"))
        places = pc.fill_null(kept.column("split"), "")
        for name in (*SPLITS, ""):
            unique = pc.unique(names.filter(pc.equal(places, name)))
            groups.setdefault(name, set()).update(unique.to_pylist())
    total = len(set().union(*groups.values()))
    ingests = [stage["params"] for stage in done.stages if stage["stage"] == "ingest"]
    described = [f"{params['dataset']}: {describe(params['groups'])}" for params in ingests if "groups" in params]
    each = ", ".join(f"{len(groups[name]):,} in {name}" for name in SPLITS)
    return [*described, f"{_number(total, 'group')}: {each}"]


def _drops(done: Manifest, stage: str) -> tuple[int, list[str]]:
    """How many rows a stage dropped, and what it says of the first three."""
    import pyarrow as pa
    import pyarrow.compute as pc

    count, examples = 0, list[str]()
    for part in done.parts(["lq_path", "gt_path", "decisions"]):
        lists = part.column("decisions").combine_chunks()
        rows, flat = pc.list_parent_indices(lists), pa.Table.from_struct_array(pc.list_flatten(lists))
        mine = pc.and_(pc.equal(flat.column("stage"), stage), pc.equal(flat.column("verdict"), "drop"))
        dropped = rows.filter(mine.combine_chunks())
        count += pc.count_distinct(dropped).as_py()
        texts = flat.column("text").filter(mine)
        names = pc.coalesce(part.column("lq_path"), part.column("gt_path"))
        for row, text in zip(dropped[:EXAMPLES].to_pylist(), texts[:EXAMPLES].to_pylist(), strict=True):
            examples.append(f"  {names[row]}: {text}")
    return count, examples[:EXAMPLES]


def _dedup(done: Manifest) -> list[str]:
    import pyarrow as pa
    import pyarrow.compute as pc

    copies, clusters = list[tuple[str, str]](), set[str]()
    for part in done.parts(["cluster", "pair_id", "lq_path", "gt_path", "status"]):
        found = part.filter(pc.is_valid(part.column("cluster")))
        clusters.update(pc.unique(found.column("cluster")).to_pylist())
        names = pc.coalesce(found.column("lq_path"), found.column("gt_path"))
        other = pc.not_equal(found.column("cluster"), found.column("pair_id"))
        chosen = pc.and_(other, pc.equal(found.column("status"), "dropped"))
        first = pa.table({"name": names, "kept": found.column("cluster")}).filter(chosen)
        copies += zip(first.column("name")[:EXAMPLES].to_pylist(), first.column("kept").to_pylist(), strict=False)
    wanted, kept = {pair for _, pair in copies[:EXAMPLES]}, dict[str, str]()
    for part in done.parts(["pair_id", "lq_path", "gt_path"]) if wanted else ():
        found = part.filter(pc.is_in(part.column("pair_id"), pa.array(sorted(wanted))))
        names = pc.coalesce(found.column("lq_path"), found.column("gt_path"))
        kept |= dict(zip(found.column("pair_id").to_pylist(), names.to_pylist(), strict=True))
    count, _ = _drops(done, "dedup")
    examples = [f"  {name} is a copy of {kept.get(pair, pair)}" for name, pair in copies[:EXAMPLES]]
    return [f"{_number(count, 'copy', 'copies')} dropped, in {_number(len(clusters), 'cluster')}", *examples]


def _number(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _decontaminate(done: Manifest) -> list[str]:
    count, examples = _drops(done, "decontaminate")
    return [f"{_number(count, 'pair')} dropped for matching a test image", *examples]


def _filter(done: Manifest) -> list[str]:
    count, examples = _drops(done, "filter")
    return [f"{_number(count, 'row')} dropped by filter", *examples]


def _caption(done: Manifest) -> list[str]:
    sides = [name for name in ("caption", "lq.caption") if name in done.column_names]
    counts, examples, without = Counter[str](), list[str](), 0
    for side in sides:
        model = side.replace("caption", "caption_model")
        for part in done.parts(["status", "lq_path", "gt_path", side, model]):
            for row in part.to_pylist():
                if row[side]:
                    counts[row[model] or "unknown"] += 1
                    path = row["lq_path"] if side != "caption" else row["gt_path"]
                    if len(examples) < EXAMPLES - 1:
                        examples.append(f"  {path}: {_short(row[side])}")
                elif row["status"] == "kept":
                    without += 1
    made = ", ".join(f"{count:,} by {model}" for model, count in counts.most_common()) or "none"
    return [f"captions: {made}" + (f"; {without:,} kept rows have none" if without else ""), *examples]


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def _shard(done: Manifest) -> list[str]:
    tars: dict[str, dict[str, int]] = {}
    pairs = Counter[str]()
    for part in done.parts(["split", "shard", "sample_size"]):
        for row in part.to_pylist():
            if row["shard"]:
                tars.setdefault(row["split"], Counter())[row["shard"]] += row["sample_size"] or 0
                pairs[row["split"]] += 1
    sizes = {split: sum(named.values()) for split, named in tars.items()}
    each = [f"{split} {len(tars[split]):,} ({pairs[split]:,} pairs, {size(sizes[split])})" for split in sorted(tars)]
    return [f"{_number(sum(map(len, tars.values())), 'tar')}, {size(sum(sizes.values()))}: {', '.join(each)}"]


def size(count: int) -> str:
    """Bytes for a person: `12.3 MB`.

    >>> size(12_300_000)
    '12.3 MB'
    """
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:,.1f} {unit}"
    return f"{count} bytes"


def _degrade(done: Manifest) -> list[str]:
    name, counts = done.stages[-1]["params"]["dataset"], Counter[str]()
    for part in done.parts(["dataset", "task", "status"]):
        for row in part.group_by(["dataset", "task", "status"]).aggregate([([], "count_all")]).to_pylist():
            if row["dataset"] == name and row["status"] == "kept":
                counts[row["task"]] += row["count_all"]
    each = ", ".join(f"{task} {count:,}" for task, count in sorted(counts.items()))
    return [f"{_number(sum(counts.values()), 'pair')} made: {each}"]


def _merge(done: Manifest, sources: Sequence[Manifest]) -> list[str]:
    if not sources:
        return []
    given = [source.rows["rows"] for source in sources]
    each = ", ".join(f"{_number(count, 'row')} of {source.path}" for source, count in zip(sources, given, strict=True))
    return [f"{each}; {sum(given) - done.rows['rows']:,} were in an earlier one already"]


def _score(done: Manifest) -> list[str]:
    names = done.stages[-1]["params"].get("metrics", {})
    return _distributions(done, [f"iqa.{name}" for name in names if f"iqa.{name}" in done.column_names])


def _distributions(done: Manifest, columns: Sequence[str]) -> list[str]:
    """Median and range of columns of numbers, over distinct GTs."""
    import numpy as np

    out = []
    for column in columns:
        values: dict[str, float] = {}
        for part in done.parts(["gt_sha256", column]):
            pairs = zip(part.column("gt_sha256").to_pylist(), part.column(column).to_pylist(), strict=True)
            values.update({gt: value for gt, value in pairs if gt and value is not None})
        if values:
            numbers = np.fromiter(values.values(), float)
            low, middle, high = np.nanmin(numbers), np.nanmedian(numbers), np.nanmax(numbers)
            out.append(f"{column}: {len(numbers):,} GTs, median {middle:.4g}, from {low:.4g} to {high:.4g}")
    return out


def _identify(done: Manifest) -> list[str]:
    prefix = "degradation." if "identifier" in done.stages[-1]["params"] else "daclip."
    columns = [name for name in done.column_names if name.startswith(prefix)]
    counts, seen = Counter[str](), set[str]()
    for part in done.parts(["gt_sha256", "status", *columns]):
        for row in part.to_pylist():
            if row["status"] == "kept" and row["gt_sha256"] and row["gt_sha256"] not in seen:
                seen.add(row["gt_sha256"])
                counts.update(name.removeprefix(prefix) for name in columns if (row[name] or 0.0) > 0.5)
    each = ", ".join(f"{name} {count:,}" for name, count in counts.most_common()) or "none"
    return [f"{len(seen):,} GTs; with a probability above 0.5: {each}"]
