"""What is done to a caption that a model wrote: trimmed as FoundIR-v2's release does it, and looked at."""

from __future__ import annotations

import re
from collections import Counter
from itertools import groupby

OPENING = 3  # words that the release drops: "The image features", "This picture shows"
SENTENCES = 2  # that it keeps
FEWEST = 3  # words that must be left, otherwise nothing is dropped
# Frequent words that tell English from its neighbours; such as "an" and "in", which others have as well, are left out.
ENGLISH = re.compile(r"\b(the|of|and|with|is|are|this|that|there|it|to|from|by|at|his|her|its|while|which)\b")
OTHERS = re.compile(
    r"\b(der|das|und|ein|eine|einer|einem|mit|auf|ist|im|dem|von|zu|nicht|le|la|les|une|des|et|dans|avec|est|sur|du|au"
    r"|un|el|los|las|una|con|en|del|y|que|il|gli|di|e|che|della|nel|per|o|os|uma|com|da|em|het|een|van|op)\b"
)
_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9])")


def trim(text: str, *, opening: int = OPENING, sentences: int = SENTENCES) -> str:
    """A caption without its first `opening` words, capitalised, of at most `sentences` sentences (0: all).

    A caption too short for that keeps its words: fewer than three would be left of its first sentence.
    """
    plain = " ".join("".join(one if one.isprintable() else " " for one in text).split())
    if not plain:
        return ""
    first = _END.split(plain, maxsplit=1)[0].split()
    if opening and len(first) >= opening + FEWEST:
        plain = plain.split(" ", opening)[opening]
    if sentences:
        plain = " ".join(_END.split(plain)[:sentences])
    return plain[0].upper() + plain[1:]


def problem(text: str) -> str | None:
    """What is wrong with a caption: empty, not English, or the same words again and again. None: nothing."""
    words = re.findall(r"\w+", text.lower())
    if not words:
        return "the caption is empty"
    letters = [one for one in text if one.isalpha()]
    ours, others = (len(some.findall(text.lower())) for some in (ENGLISH, OTHERS))
    if (letters and sum(one.isascii() for one in letters) < 0.9 * len(letters)) or others > ours + 1:
        return "the caption is not in English"
    runs = Counter(zip(*(words[k:] for k in range(4)), strict=False))
    if len(words) >= 4 and runs and runs.most_common(1)[0][1] >= 3:
        return "the caption repeats itself"
    if max(len(list(same)) for _, same in groupby(words)) >= 4:
        return "the caption repeats itself"
    if len(words) >= 16 and len(set(words)) < 0.35 * len(words):
        return "the caption repeats itself"
    return None
