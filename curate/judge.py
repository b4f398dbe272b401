"""Ask a judge about every GT, as DepictQA is asked (You et al., arXiv 2405.18842): which distortions, what quality.

Three ways to an answer: a model in this process, an OpenAI-compatible endpoint, or DepictQA itself in an environment of
its own: `export` writes its task file, `judge(answers=...)` reads what its infer.py wrote. An answer that says nothing
that is known is `parse_error`: a state, never a verdict.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from curate import budget, engine, pictures, vlm
from manifests import files, images, outputs, schema
from manifests.errors import UserError
from manifests.table import Manifest, read, refuse_existing, stage_entry, write

VERSION = 1
OK, PARSE_ERROR = "ok", "parse_error"
COLUMNS = ("judge.distortion", "judge.quality", "judge.state", "judge.text", "judge.model", "judge.prompt")
QUALITIES = ("excellent", "good", "fair", "poor", "bad")


def _levels(what: str) -> dict[str, str]:
    """Patterns of `what` being too high and too low."""
    high = "high|strong|strengthen|strengthened|increased?|excessive|over"
    low = "low|weak|weaken|weakened|reduced|decreased?|insufficient|lack"
    return {
        f"{what} too {word}": rf"(too )?({some})[- ]?(of )?{what[:-3]}\w*|{what[:-3]}\w*( is| being)?( too)? ({some})"
        for word, some in (("high", high), ("low", low))
    }


DISTORTIONS = {
    "noise": r"nois[ey]\w*|grain\w*",
    "blur": r"blur\w*|out of focus|defocus\w*",
    "compression": r"compress\w*|jpe?g\w*|block(ing|y|iness)\w*",
    "oversharpening": r"over-?\s?sharpen\w*|too sharp",
    "pixelation": r"pixel\w*|mosaic\w*",
    "color quantization": r"quanti[sz]\w*|banding|posteri[sz]\w*",
    **_levels("saturation"),
    **_levels("contrast"),
    "brightness too high": r"too bright|brighten\w*|over-?\s?expos\w*|(high|excessive|increased) brightness"
    r"|brightness( is| being)?( too)? (high|increased|excessive)",
    "brightness too low": r"too dark|dark(ness|ened|ening)?(?! (background|sky|area|region|tone|colou?r|scene)s?\b)"
    r"|under-?\s?expos\w*|(low|insufficient|reduced) brightness"
    r"|brightness( is| being)?( too)? (low|reduced|insufficient)",
    "none": r"none|nothing|no (apparent |visible |obvious |noticeable |significant )?(distortions?|degradations?)",
}
# A word that denies what follows it up to the end of its clause; and one that denies what stands before it.
DENIED = re.compile(
    r"\b(no|not(?! (?:only|just|merely))|\w+n't|without|free (?:of|from)|lacks?|neither|nor|never|hardly|barely"
    r"|scarcely|absence of|nothing|cannot)\b"
)
DENIED_AFTER = re.compile(r"^[^.;!?]*?\b(?:is|are|was|were|do|does)(?:n't| not)\b(?! (?:only|just|merely))")
CLAUSE = re.compile(r"[.;:!?]|\b(?:but|however|although|though|while|yet|except)\b")


@dataclass(frozen=True)
class Question:
    """A prompt, and what its answer is taken for: None when it says nothing that is known."""

    prompt: str
    parse: Callable[[str], str | None]


def distortions(answer: str) -> str | None:
    """The labels that an answer names, in the order of `DISTORTIONS`, with commas; None for none of them.

    >>> distortions("The image is blurry and has JPEG artifacts.")
    'blur, compression'
    """
    said = _plain(answer)
    found = []
    for label, pattern in DISTORTIONS.items():
        if any(label == "none" or not _denied(said, one) for one in re.finditer(rf"\b(?:{pattern})\b", said)):
            found.append(label)
    if "none" in found:
        return "none" if len(found) == 1 else None  # it contradicts itself
    return ", ".join(found) or None


def quality(answer: str) -> str | None:
    """excellent, good, fair, poor or bad; None when an answer names none of them, or several."""
    said = _plain(answer)
    matches = re.finditer(rf"\b({'|'.join(QUALITIES)})\b", said)
    found = {one.group() for one in matches if not _denied(said, one)}
    return found.pop() if len(found) == 1 else None


def _plain(answer: str) -> str:
    return " ".join(answer.lower().replace("\u2019", "'").split())


def _denied(said: str, match: re.Match[str]) -> bool:
    """Whether its clause denies a word: "no blur or noise", "blur isn't present".

    A comma ends what a word denies, unless the list goes on to an "or" or "and".
    """
    clause = CLAUSE.split(said[: match.start()])[-1]
    for denial in DENIED.finditer(clause):
        between = clause[denial.end() :]
        rest = CLAUSE.split(said[match.start() :])[0]
        if "," not in between or re.search(r"\b(n?or|and)\b", between + rest):
            return True
    after = CLAUSE.split(said[match.end() :])[0]
    return bool(DENIED_AFTER.match(after)) and "," not in after.split("n't")[0].split(" not")[0]


QUESTIONS = {
    "distortion": Question(
        "What distortion(s) are most apparent in the evaluated image? Answer the question using a single word or "
        "phrase.",
        distortions,
    ),
    "quality": Question(
        "How would you rate the quality of the evaluated image? Answer the question with one word: "
        + ", ".join(QUALITIES)
        + ".",
        quality,
    ),
}
ASKED = files.digest([[one.prompt for one in QUESTIONS.values()], VERSION])[:12]


def judge(
    manifest: str = "manifest",
    output: str | None = None,
    *,
    settings: vlm.Settings | None = None,
    answers: str | None = None,
    name: str = "depictqa",
    all_rows: bool = False,
    max_errors: str | None = None,
) -> Manifest:
    """Add what a judge says of every GT; each distinct one is judged once, and nothing is dropped.

    `judge.distortion` and `judge.quality` are words, `judge.state` is ok or parse_error, `judge.text` the answers as
    they came, `judge.model` who gave them, and `judge.prompt` names the questions.

    settings: the model that is asked; what it said before, and could be understood, stays. answers: instead of it, a
    .jsonl or .json that DepictQA's infer.py wrote for the file that `export` made; `name` says who answered. An image
    that cannot be read is an error of its rows; a GT without an answer has no judgement. Raises UserError.
    """
    if (settings is None) == (answers is None):
        raise UserError(
            "name who judges: --model FOLDER-OR-HUB-ID, --endpoint URL with --model NAME, or --answers FILE of "
            "DepictQA (--export FILE writes its tasks)",
            exit_code=2,
        )
    output = output or engine.default_output(manifest, "judge")
    refuse_existing(output)
    source = read(manifest)
    engine.require_rows(source)
    if settings is not None:
        found, said = _asked(source, output, settings, all_rows, max_errors)
    else:
        known = {target.sha256 for target in pictures.targets(source, all_rows=all_rows)}
        found, said = _read(str(answers), known), {"model": name}
    entered = (_entered(part, found, str(said["model"]), all_rows) for part in source.parts())
    tables = budget.within(entered, source, "judge", max_errors)
    stage = stage_entry("judge", VERSION, {**said, "prompt": ASKED}, [source])
    done = write(output, tables, roots=source.roots, stages=[*source.stages, stage], expected_rows=source.rows["rows"])
    engine.clean(engine.work_folder(output))
    return done


def export(manifest: str, path: str, *, all_rows: bool = False) -> int:
    """Write the task file of DepictQA's infer.py (`--meta_path`, task quality_single_A_noref); returns its questions.

    Images are named where they lie; those that are not local files cannot be. Raises UserError.
    """
    if files.exists(path):
        raise outputs.existing(path, "--export")
    source = read(manifest)
    engine.require_rows(source)
    tasks = []
    for target in pictures.targets(source, all_rows=all_rows):
        url = target.place.url
        if files.is_url(url):
            raise UserError(f"{url}: DepictQA reads local files; copy the images, or ask an endpoint")
        if target.place.size >= 0:
            raise UserError(f"{url}: DepictQA reads files, not tars; export the manifest that the shards were made of")
        for name, question in QUESTIONS.items():
            tasks.append({
                "id": f"{target.sha256}:{name}", "image_ref": None, "image_A": os.path.abspath(url), "image_B": None,
                "task_type": "quality_single_A_noref", "query": question.prompt,
            })  # fmt: skip
    files.write(path, (json.dumps(tasks, indent=1) + "\n").encode())
    return len(tasks)


def _asked(
    source: Manifest, output: str, settings: vlm.Settings, all_rows: bool, max_errors: str | None
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """sha256 → its answers by question, or its problem; and what is said of it in the lineage."""
    model = vlm.name_of(settings)
    has = {"judge.model": (model,), "judge.prompt": (ASKED,), "judge.state": (OK,)}
    targets = pictures.targets(source, all_rows=all_rows, has={"gt": has})
    said = {"model": model, "max_tokens": settings.max_tokens, "temperature": settings.temperature}
    found = pictures.ask_all(
        source, output, targets, partial(_answers, settings=settings), settings, label="judge",
        said={"asked": ASKED, **said}, columns=dict.fromkeys(QUESTIONS, pa.string()), max_errors=max_errors,
    )  # fmt: skip
    return found, said


def _answers(some: list[images.Pixels], *, settings: vlm.Settings) -> list[dict[str, Any]]:
    """Each picture's answers by question."""
    model = vlm.load(settings)
    texts = {name: model.ask(some, question.prompt, seed=0) for name, question in QUESTIONS.items()}
    rows = [{name: mine[place] for name, mine in texts.items()} for place in range(len(some))]
    return [_row(answers) for answers in rows]


def _row(answers: Mapping[str, str | vlm.Refused]) -> dict[str, Any]:
    refused = [one.reason for one in answers.values() if isinstance(one, vlm.Refused)]
    return {"problem": refused[0]} if refused else dict(answers)


def _read(path: str, known: set[str]) -> dict[str, dict[str, Any]]:
    """Answers of DepictQA's infer.py. Raises UserError for a file that is none, or of other images."""
    try:
        text = files.read(path).decode()
        rows = (
            json.loads(text)
            if text.lstrip().startswith("[")
            else [json.loads(one) for one in text.splitlines() if one.strip()]
        )
        pairs = [(str(row["id"]).split(":"), None if row["text"] is None else str(row["text"])) for row in rows]
    except FileNotFoundError:
        raise UserError(f"{path}: no such file of answers") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not answers of DepictQA's infer.py, lines with id and text ({error})") from None
    out: dict[str, dict[str, Any]] = {}
    for parts, answer in pairs:
        if len(parts) == 2 and parts[0] in known and parts[1] in QUESTIONS and answer is not None:
            out.setdefault(parts[0], {"problem": None})[parts[1]] = answer
    if not out:
        raise UserError(
            f"{path}: none of its {len(pairs)} answers is about a GT of this manifest; was it exported from it?"
        )
    return out


def _entered(part: pa.Table, found: Mapping[str, Mapping[str, Any]], model: str, all_rows: bool) -> pa.Table:
    shas = part.column("gt_sha256").to_pylist()
    rows = [found.get(sha) if use and sha else None
            for use, sha in zip(engine.chosen(part, all_rows), shas, strict=True)]  # fmt: skip
    facts = [None if row is None or row["problem"] else _facts(row, model) for row in rows]
    for name in COLUMNS:
        old = part.column(name).to_pylist() if name in part.column_names else [None] * part.num_rows
        new = [before if one is None else one[name] for one, before in zip(facts, old, strict=True)]
        part = schema.set_column(part, name, new, pa.string())
    decisions = [
        before if row is None else schema.decide(before, "judge", ["unreadable"], _problem(row))
        for row, before in zip(rows, part.column("decisions").to_pylist(), strict=True)
    ]
    return schema.conform(schema.set_column(part, "decisions", decisions, schema.CORE["decisions"]))


def _facts(row: Mapping[str, Any], model: str) -> dict[str, str | None]:
    texts = {name: row.get(name) for name in QUESTIONS}
    parsed = {name: None if text is None else QUESTIONS[name].parse(text) for name, text in texts.items()}
    asked = [name for name, text in texts.items() if text is not None]
    state = OK if all(parsed[name] is not None for name in asked) else PARSE_ERROR
    said = {f"judge.{name}": value for name, value in parsed.items()}
    text = json.dumps(texts, ensure_ascii=False)
    return {**said, "judge.state": state, "judge.text": text, "judge.model": model, "judge.prompt": ASKED}


def _problem(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [schema.decision("judge", "unreadable", "error", row["problem"])] if row["problem"] else []
