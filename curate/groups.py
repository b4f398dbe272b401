"""The groups of a manifest's rows: what must stay on one side of a split.

A group comes from the template of a layout or of `--group`. Where there is none, rows join that have equal or
near-equal GTs, or whose file names tell of one scene (see `scene_names`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate import hamming, scene_names
from curate.clusters import NEAR, Disjoint, join_equal, join_near
from manifests import schema
from manifests.table import Manifest

AUTO, NONE = "auto", "none"
COLUMNS = ["group", "gt_sha256", "phash", "dataset", "gt_path", "lq_path"]


def template(group: str | None) -> str | None:
    """The template of `--group`; None for `auto` and `none`, which are none."""
    return None if group in (AUTO, NONE) else group


@dataclass(frozen=True)
class Grouping:
    """How many groups there are, by what made them.

    given: by a template. names: of several files by their names. looks: of several files that are equal or near-equal.
    alone: of one file. patterns: forms of the names, the most frequent first.
    """

    given: int
    names: int
    looks: int
    alone: int
    patterns: tuple[str, ...]

    @property
    def params(self) -> dict[str, Any]:
        """For the lineage of the stage."""
        return {**asdict(self), "patterns": list(self.patterns)}


def describe(params: Mapping[str, Any]) -> str:
    """One line of how groups were found; `params` as in the lineage.

    >>> describe({"given": 0, "names": 40, "looks": 3, "alone": 0, "patterns": ["{scene}_{n}"]})
    "groups: 40 from file names ({scene}_{n}), 3 by equal look; --group '{...}' names them yourself"
    """
    parts = [f"{params['given']:,} named by the pattern"] if params["given"] else []
    if params["names"]:
        parts.append(f"{params['names']:,} from file names ({', '.join(params['patterns'])})")
    if params["looks"]:
        parts.append(f"{params['looks']:,} by equal look")
    if params["alone"]:
        parts.append(f"{params['alone']:,} of one image")
    found = params["names"] or params["looks"] or params["alone"]
    return "groups: " + (", ".join(parts) or "none") + ("; --group '{...}' names them yourself" if found else "")


def assign_groups(table: pa.Table, auto: bool = True) -> tuple[pa.Table, Grouping]:
    """The table with every null `group` filled, and how.

    A cluster in which some rows have a group already gives it to the others. Else the name is `dataset/path` of the
    cluster's first GT in path order, so that it does not depend on row order. auto: whether rows join by names, content
    and looks; otherwise each GT file is a group.
    """
    columns = table.select(COLUMNS).to_pydict()
    keys, patterns = _scene_keys(columns) if auto else ([None] * table.num_rows, ())
    filled, grouping = _filled(columns, keys, patterns, auto)
    return schema.set_column(table, "group", filled, pa.string()), grouping


def _own(columns: Mapping[str, Sequence[Any]]) -> list[str]:
    """`dataset/path` of every row's GT, of its LQ where there is none."""
    paths = zip(columns["dataset"], columns["gt_path"], columns["lq_path"], strict=True)
    return [f"{dataset}/{gt or lq or ''}" for dataset, gt, lq in paths]


def _scene_keys(columns: Mapping[str, Sequence[Any]]) -> tuple[list[str | None], tuple[str, ...]]:
    """The scene that each row's name tells of, if any; and the forms of these names."""
    files: dict[str, dict[str, str | None]] = {}
    own = _own(columns)
    guessed = {*own, None}  # a guessed group is called after a file
    for dataset, name, phash, group in zip(columns["dataset"], own, columns["phash"], columns["group"], strict=True):
        if group in guessed:
            files.setdefault(dataset, {})[name] = phash
    key: dict[str, str] = {}
    patterns: Counter[str] = Counter()
    for phashes in files.values():
        scenes = scene_names.find(phashes)
        key.update(scenes.key)
        patterns.update(scenes.patterns)
    return [key.get(name) for name in own], tuple(pattern for pattern, _ in patterns.most_common(3))


def _filled(
    columns: Mapping[str, Sequence[Any]], keys: Sequence[str | None], patterns: tuple[str, ...], auto: bool
) -> tuple[list[str], Grouping]:
    own, groups = _own(columns), columns["group"]
    sets = Disjoint(len(own))
    join_equal(sets, own)
    if auto:
        join_equal(sets, columns["gt_sha256"])
        join_near(sets, columns["phash"])
        join_equal(sets, keys)
    name: dict[int, tuple[bool, str]] = {}  # given names go before made ones
    for index, (text, group) in enumerate(zip(own, groups, strict=True)):
        root = sets.find(index)
        candidate = (group is None, text if group is None else group)
        name[root] = min(candidate, name.get(root, candidate))
    filled = [group if group is not None else name[sets.find(i)][1] for i, group in enumerate(groups)]
    return filled, _count(filled, own, groups, keys, patterns)


def _count(
    filled: Sequence[str],
    own: Sequence[str],
    given: Sequence[str | None],
    keys: Sequence[str | None],
    patterns: tuple[str, ...],
) -> Grouping:
    files: dict[str, set[str]] = {}
    for group, name in zip(filled, own, strict=True):
        files.setdefault(group, set()).add(name)
    by_pattern = set(given) - {None}
    by_name = {group for group, key in zip(filled, keys, strict=True) if key is not None} - by_pattern
    others = [len(files[group]) > 1 for group in files.keys() - by_pattern - by_name]
    alone = sum(len(files[group]) == 1 for group in by_name)  # a copy of its scene is all that is left of it
    return Grouping(len(by_pattern), len(by_name) - alone, sum(others), len(others) - sum(others) + alone, patterns)


def join_groups(base: Manifest, new: pa.Table, auto: bool = True) -> tuple[pa.Table, Grouping]:
    """`new` with every null `group` filled; its rows join the groups of the rows of `base` that they belong to."""
    if not auto:
        return assign_groups(new, auto=False)
    datasets, near = pc.unique(new.column("dataset")), []
    for part in base.parts(COLUMNS):
        same = pc.fill_null(pc.is_in(part.column("dataset"), datasets), False).to_numpy().astype(bool)
        near.append(part.filter(pa.array(same | _akin(part, new))))
    both = pa.concat_tables([*near, new.select(COLUMNS)], promote_options="default")
    columns, begun = both.to_pydict(), both.num_rows - new.num_rows
    keys, patterns = _scene_keys(columns)
    groups = _filled(columns, keys, patterns, auto)[0][begun:]
    own = _own({name: values[begun:] for name, values in columns.items()})
    grouping = _count(groups, own, columns["group"][begun:], keys[begun:], patterns)
    return schema.set_column(new, "group", groups, pa.string()), grouping


def _akin(base: pa.Table, new: pa.Table) -> npt.NDArray[np.bool_]:
    """(rows of base,) which of them have the content or nearly the look of a row of `new`."""
    contents = pc.unique(new.column("gt_sha256")).drop_null()
    same = pc.fill_null(pc.is_in(base.column("gt_sha256"), contents), False).to_numpy()
    chosen: npt.NDArray[np.bool_] = same.astype(np.bool_)
    wanted = hamming.numbers(pc.unique(new.column("phash")).drop_null().to_pylist())
    there = np.flatnonzero(pc.is_valid(base.column("phash")).to_numpy())
    hashes = hamming.numbers(base.column("phash").drop_null().to_pylist())
    for rows, _, _ in hamming.pairs_between(hashes, wanted, NEAR):
        chosen[there[rows]] = True
    return chosen
