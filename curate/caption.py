"""Caption the images; who made a caption, of which prompt and seed, stands beside it."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from curate import budget, caption_text, captioners, engine, pictures, vlm
from curate.complete import complete, measurable
from manifests import files, images, schema
from manifests.errors import UserError
from manifests.table import Manifest, read, refuse_existing, stage_entry, write

VERSION = 2
LLAVA = "llava"  # the captioner that asks a vision-language model
PROMPT = "Describe this image and its style in a very detailed manner."  # of SUPIR, FaithDiff and FoundIR-v2
HEAT = 0.7  # temperature of a second try
FACTS = {
    "caption": pa.string(),
    "caption_model": pa.string(),
    "caption_prompt": pa.string(),
    "caption_seed": pa.int64(),
}


@dataclass(frozen=True)
class Task:
    """What is asked, and what becomes of the answer. opening, sentences: see `caption_text.trim`."""

    settings: vlm.Settings
    prompt: str = PROMPT
    opening: int = caption_text.OPENING
    sentences: int = caption_text.SENTENCES
    seed: int = 0

    @property
    def fingerprint(self) -> str:
        """12 hex digits of the prompt and of all else that a caption depends on beside model and seed."""
        heat, length = self.settings.temperature, self.settings.max_tokens
        return files.digest([self.prompt, self.opening, self.sentences, heat, length])[:12]


def names() -> list[str]:
    """Names of the captioners."""
    return sorted([LLAVA, *(module.name for module in pkgutil.iter_modules(captioners.__path__))])


def caption(
    manifest: str = "manifest",
    output: str | None = None,
    *,
    captioner: str = "signals",
    task: Task | None = None,
    on: str = "gt",
    all_rows: bool = False,
    max_errors: str | None = None,
) -> Manifest:
    """Set `caption` and `caption_model` of the kept rows.

    `signals` writes what the built-in signals and the identifier measured; GTs that lack them are measured first, rows
    without a GT keep a null caption. `llava` asks the vision-language model of `task`, once for each distinct image,
    and adds `caption_prompt` and `caption_seed`; on: "gt", "lq" (`lq.caption` and so on) or "both". A caption that is
    empty, not English or repeats itself is asked for once more with another seed, and is then an error. Captions that
    the same model made of the same task stay as they are. Raises UserError for a captioner or model that is not there
    and for columns that are missing.
    """
    output = output or engine.default_output(manifest, "caption")
    refuse_existing(output)
    if captioner not in names():
        raise UserError(f"unknown captioner {captioner!r}; this version has {', '.join(names())}", exit_code=2)
    if on not in pictures.SIDES:
        raise UserError(f"--on {on}: choose {', '.join(pictures.SIDES)}", exit_code=2)
    if captioner != LLAVA and (on != "gt" or task is not None):
        raise UserError(
            f"--captioner {captioner} asks no model, and describes GTs only: leave --model, --on out", exit_code=2
        )
    source = read(manifest)
    engine.require_rows(source)
    if captioner != LLAVA:
        return _from_columns(source, output, captioner, all_rows, max_errors)
    if task is None:
        raise UserError(
            "--captioner llava needs a model: --model FOLDER-OR-HUB-ID (such as llava-hf/llava-1.5-7b-hf), or "
            "--endpoint URL with --model NAME; --captioner signals needs none",
            exit_code=2,
        )
    return _from_model(source, output, task, pictures.SIDES[on], all_rows, max_errors)


def _from_columns(source: Manifest, output: str, captioner: str, all_rows: bool, max_errors: str | None) -> Manifest:
    maker = importlib.import_module(f"curate.captioners.{captioner}")
    if missing := [name for name in maker.NEEDS if name not in source.column_names and not measurable(name)]:
        raise UserError(f"{source.path}: has no column {missing[0]!r}; run the stage that makes it first")
    completed = complete(source, maker.NEEDS, output, all_rows=all_rows, max_errors=max_errors)
    tables = budget.within(
        (_described(part, maker, all_rows) for part in completed.parts()), source, "caption", max_errors
    )
    measured = completed.params if completed.scores and (completed.scores.measured or completed.identifies) else {}
    params = measured | {"captioner": captioner, "model": maker.MODEL}
    stage = stage_entry("caption", VERSION, params, [source])
    done = write(output, tables, roots=source.roots, stages=[*source.stages, stage], expected_rows=source.rows["rows"])
    engine.clean(engine.work_folder(output))
    return done


def _described(part: pa.Table, maker: Any, all_rows: bool) -> pa.Table:
    """A part with a caption for every chosen row that has all that `maker` describes."""
    part = schema.with_columns(part, {"caption": pa.string(), "caption_model": pa.string()})
    part = schema.with_columns(part, dict.fromkeys(maker.NEEDS, pa.float64()))  # null where no row has a GT
    texts, models = part.column("caption").to_pylist(), part.column("caption_model").to_pylist()
    measured = part.select(maker.NEEDS).to_pylist()
    for i, use in enumerate(engine.chosen(part, all_rows)):
        if use and None not in measured[i].values():
            texts[i], models[i] = maker.describe(measured[i]), maker.MODEL
    part = schema.set_column(part, "caption", texts, pa.string())
    return schema.set_column(part, "caption_model", models, pa.string())


def _from_model(
    source: Manifest, output: str, task: Task, sides: Sequence[str], all_rows: bool, max_errors: str | None
) -> Manifest:
    model = vlm.name_of(task.settings)
    made = {
        "caption_model": (model,),
        "caption_prompt": (task.fingerprint,),
        "caption_seed": (task.seed, task.seed + 1),
    }
    has = {side: {_prefix(side) + name: values for name, values in made.items()} for side in sides}
    targets = pictures.targets(source, sides, all_rows=all_rows, has=has)
    said = {"captioner": LLAVA, "model": model, "prompt": task.prompt, "opening": task.opening, "seed": task.seed}
    said |= {"sentences": task.sentences, "max_tokens": task.settings.max_tokens, "on": list(sides)}
    said |= {"temperature": task.settings.temperature}
    found = pictures.ask_all(
        source, output, targets, partial(_captions, task=task), task.settings, label="caption",
        said={"version": VERSION, **said}, columns={"caption": pa.string(), "seed": pa.int64()}, max_errors=max_errors,
    )  # fmt: skip
    tables: Iterator[pa.Table] = (_entered(part, found, sides, model, task, all_rows) for part in source.parts())
    tables = budget.within(tables, source, "caption", max_errors)
    stage = stage_entry("caption", VERSION, said, [source])
    done = write(output, tables, roots=source.roots, stages=[*source.stages, stage], expected_rows=source.rows["rows"])
    engine.clean(engine.work_folder(output))
    return done


def _captions(some: list[images.Pixels], *, task: Task) -> list[dict[str, Any]]:
    """Caption, seed and problem of each picture; one that is no good is asked for once more."""
    model = vlm.load(task.settings)
    rows: list[dict[str, Any]] = [{} for _ in some]
    wanted = list(range(len(some)))
    for again in (False, True):
        if not wanted:
            break
        heat = max(task.settings.temperature, HEAT) if again else None
        seed = task.seed + again
        texts = model.ask([some[place] for place in wanted], task.prompt, seed=seed, temperature=heat)
        asked, wanted = wanted, []
        for place, text in zip(asked, texts, strict=True):
            if isinstance(text, vlm.Refused):
                rows[place] = {"caption": None, "seed": seed, "problem": text.reason}
                continue
            trimmed = caption_text.trim(text, opening=task.opening, sentences=task.sentences)
            problem = caption_text.problem(text) or caption_text.problem(trimmed)
            rows[place] = {"caption": trimmed, "seed": seed, "problem": problem}
            if problem:
                wanted.append(place)
    return rows


def _entered(
    part: pa.Table, found: Mapping[str, Mapping[str, Any]], sides: Sequence[str], model: str, task: Task, all_rows: bool
) -> pa.Table:
    """A part with its captions; an image without a good one is an error of its row."""
    use = engine.chosen(part, all_rows)
    decisions = part.column("decisions").to_pylist()
    for side in sides:
        prefix = _prefix(side)
        shas = part.column(pictures.named(side)[0]).to_pylist()
        rows = [found.get(sha) if one and sha else None for one, sha in zip(use, shas, strict=True)]
        given = [row if row and not row["problem"] else None for row in rows]
        for name, kind in FACTS.items():
            column = prefix + name
            old = part.column(column).to_pylist() if column in part.column_names else [None] * part.num_rows
            new = [_fact(name, row, model, task) if row else before for row, before in zip(given, old, strict=True)]
            part = schema.set_column(part, column, new, kind)
        decisions = [
            before if row is None else schema.decide(before, "caption", [side], _problem(side, row))
            for row, before in zip(rows, decisions, strict=True)
        ]
    return schema.conform(schema.set_column(part, "decisions", decisions, schema.CORE["decisions"]))


def _prefix(side: str) -> str:
    return "" if side == "gt" else "lq."


def _fact(name: str, row: Mapping[str, Any], model: str, task: Task) -> Any:
    same = {"caption_model": model, "caption_prompt": task.fingerprint}
    return same[name] if name in same else row[name.removeprefix("caption_")]


def _problem(side: str, row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    if row["problem"]:
        yield schema.decision("caption", side, "error", row["problem"])
