"""Readable rules over columns: `iqa.musiq >= 45 and max(degradation.*) < 0.5 and judge.quality in [good, excellent]`.

    or, and, not, ( )
    >= <= > < == !=        a number, a word, or another column
    in [a, b], not in [a, b]
    is missing, is known   whether a column has a value
    min( ), max( ), mean( ) of columns; `degradation.*` stands for all that begin so
    quantile(5%)           on the right of a comparison: of the left side, among the GTs of the row's task

What has no value makes a comparison unknown; `false and unknown` is false, `true or unknown` is true (Kleene's logic).
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from manifests.errors import UserError

Values = npt.NDArray[Any]  # (n,) float64 with NaN, or objects with None, where there is no value
Truth = npt.NDArray[np.int8]  # (n,) 1 true, 0 false, -1 unknown

TOKEN = re.compile(
    r"\s*(?:(?P<number>-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)(?P<percent>%)?|(?P<text>'[^']*'|\"[^\"]*\")"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_.*]*)|(?P<sign>>=|<=|==|!=|[><(),\[\]]))"
)
COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    ">=": np.greater_equal, "<=": np.less_equal, ">": np.greater, "<": np.less, "==": np.equal, "!=": np.not_equal,
}  # fmt: skip
REDUCE: dict[str, Callable[..., Any]] = {"min": np.min, "max": np.max, "mean": np.mean}


class Table:
    """What an expression is evaluated on. columns: name → (n,) values. groups: (n,) which task a row is of.

    quantile: (text of the left side, per cent) → (groups,) its thresholds.
    """

    def __init__(
        self,
        columns: Mapping[str, Values],
        groups: npt.NDArray[np.int64],
        quantiles: Mapping[tuple[str, float], Values],
    ) -> None:
        self.columns, self.groups, self.quantiles = columns, groups, quantiles

    @property
    def size(self) -> int:
        """Rows."""
        return len(self.groups)


@dataclass(frozen=True)
class Column:
    """A column's values."""

    name: str

    def names(self) -> Iterator[str]:
        yield self.name

    def values(self, table: Table) -> Values:
        return table.columns[self.name]

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Constant:
    """A number or a word."""

    value: float | str

    def names(self) -> Iterator[str]:
        return iter(())

    def values(self, table: Table) -> Values:
        return np.full(table.size, self.value, object if isinstance(self.value, str) else np.float64)

    def __str__(self) -> str:
        return self.value if isinstance(self.value, str) else f"{self.value:g}"


@dataclass(frozen=True)
class Reduced:
    """min, max or mean of columns; unknown where one of them is."""

    how: str
    parts: tuple[Column, ...]

    def names(self) -> Iterator[str]:
        for part in self.parts:
            yield from part.names()

    def values(self, table: Table) -> Values:
        stacked = np.stack([numbers(part.values(table), part.name) for part in self.parts])
        reduced: Values = REDUCE[self.how](stacked, axis=0)
        return reduced

    def __str__(self) -> str:
        return f"{self.how}({', '.join(map(str, self.parts))})"


@dataclass(frozen=True)
class Quantile:
    """A threshold from the data: the given per cent of the left side's values lie below it, in each task."""

    percent: float

    def names(self) -> Iterator[str]:
        return iter(())

    def __str__(self) -> str:
        return f"quantile({self.percent:g}%)"


Value = Column | Constant | Reduced


@dataclass(frozen=True)
class Comparison:
    """left sign right."""

    left: Value
    sign: str
    right: Value | Quantile

    def names(self) -> Iterator[str]:
        yield from self.left.names()
        yield from self.right.names()

    def truth(self, table: Table) -> Truth:
        left, right = self.left.values(table), self.threshold(table)
        if left.dtype == object or right.dtype == object:
            if self.sign not in ("==", "!="):
                left, right = numbers(left, str(self.left)), numbers(right, str(self.right))
            elif left.dtype != right.dtype:
                raise UserError(f"{self}: one is text, the other a number", exit_code=2)
        known = _known(left) & _known(right)
        out = np.full(table.size, -1, np.int8)
        out[known] = COMPARE[self.sign](left[known], right[known]).astype(np.int8)
        return out

    def threshold(self, table: Table) -> Values:
        """The right side's values."""
        if isinstance(self.right, Quantile):
            return table.quantiles[str(self.left), self.right.percent][table.groups]
        return self.right.values(table)

    def __str__(self) -> str:
        return f"{self.left} {self.sign} {self.right}"


@dataclass(frozen=True)
class Member:
    """left in [choices]; a number among the choices of a text is compared as it is written."""

    left: Value
    choices: tuple[float | str, ...]
    inside: bool

    def names(self) -> Iterator[str]:
        return self.left.names()

    def truth(self, table: Table) -> Truth:
        left, choices = self.left.values(table), set(self.choices)
        if left.dtype == object:
            choices = {_written(one) for one in choices}
        elif text := [one for one in self.choices if isinstance(one, str)]:
            raise UserError(f"{self}: {self.left} is a number, {text[0]} is not", exit_code=2)
        found = np.array([value in choices for value in left.tolist()], bool)
        return np.where(_known(left), found == self.inside, -1).astype(np.int8)

    def __str__(self) -> str:
        choices = ", ".join(map(_written, self.choices))
        return f"{self.left} {'in' if self.inside else 'not in'} [{choices}]"


@dataclass(frozen=True)
class Presence:
    """left is missing, or is known."""

    left: Value
    known: bool

    def names(self) -> Iterator[str]:
        return self.left.names()

    def truth(self, table: Table) -> Truth:
        found: Truth = (_known(self.left.values(table)) == self.known).astype(np.int8)
        return found

    def __str__(self) -> str:
        return f"{self.left} is {'known' if self.known else 'missing'}"


@dataclass(frozen=True)
class Logic:
    """and, or, not of truths."""

    how: str
    parts: tuple[Expression, ...]

    def names(self) -> Iterator[str]:
        for part in self.parts:
            yield from part.names()

    def truth(self, table: Table) -> Truth:
        truths = np.stack([part.truth(table) for part in self.parts])
        if self.how == "not":
            return np.where(truths[0] < 0, -1, 1 - truths[0]).astype(np.int8)
        decisive = 0 if self.how == "and" else 1
        out = np.where((truths < 0).any(0), -1, 1 - decisive)
        found: Truth = np.where((truths == decisive).any(0), decisive, out).astype(np.int8)
        return found

    def __str__(self) -> str:
        if self.how == "not":
            return f"not ({self.parts[0]})"
        return f" {self.how} ".join(f"({one})" if isinstance(one, Logic) else str(one) for one in self.parts)


Expression = Comparison | Member | Presence | Logic


def parse(text: str, columns: Sequence[str]) -> Expression:
    """The expression that `text` says. columns: what names and globs may mean; `musiq` also finds `iqa.musiq`.

    Raises UserError with the place where it is not understood.
    """
    try:
        return _Parser(text, columns).whole()
    except RecursionError:
        raise UserError(f"{text[:60]!r}...: nested too deeply", exit_code=2) from None


def clauses(expression: Expression) -> tuple[Expression, ...]:
    """The parts that must all hold: what `and` joins at the top."""
    if isinstance(expression, Logic) and expression.how == "and":
        return tuple(clause for part in expression.parts for clause in clauses(part))
    return (expression,)


def comparisons(expression: Expression) -> Iterator[Comparison]:
    """All comparisons in it."""
    if isinstance(expression, Comparison):
        yield expression
    elif isinstance(expression, Logic):
        for part in expression.parts:
            yield from comparisons(part)


def asked(expression: Expression) -> Iterator[str]:
    """The columns of which it says what holds where they have no value: `is missing`, `is known`."""
    if isinstance(expression, Logic):
        for part in expression.parts:
            yield from asked(part)
    elif isinstance(expression, Presence):
        yield from expression.names()


class _Parser:
    """Recursive descent over the tokens."""

    def __init__(self, text: str, columns: Sequence[str]) -> None:
        self._text, self._columns = text, columns
        self._tokens: list[tuple[str, Any, int]] = []
        self._at = place = 0
        while rest := text[place:].lstrip():
            start = len(text) - len(rest)
            found = TOKEN.match(text, place)
            if found is None:
                raise self._error("not understood", start)
            kind, value = found.lastgroup or "", found.group().strip()
            if kind in ("number", "percent"):
                self._tokens.append((kind, float(value.rstrip("%")), start))
            else:
                self._tokens.append((kind, value.strip("'\"") if kind == "text" else value, start))
            place = found.end()

    def whole(self) -> Expression:
        out = self._either()
        if self._at < len(self._tokens):
            self._fail("expected 'and', 'or' or the end")
        return out

    def _either(self) -> Expression:
        return self._joined("or", self._both)

    def _both(self) -> Expression:
        return self._joined("and", self._one)

    def _joined(self, word: str, part: Callable[[], Expression]) -> Expression:
        parts = [part()]
        while self._takes("name", word):
            parts.append(part())
        return parts[0] if len(parts) == 1 else Logic(word, tuple(parts))

    def _one(self) -> Expression:
        if self._takes("name", "not"):
            return Logic("not", (self._one(),))
        if self._takes("sign", "("):
            inner = self._either()
            self._needs("sign", ")")
            return inner
        left = self._value()
        if self._takes("name", "is"):
            if not (known := self._takes("name", "known")):
                self._needs("name", "missing")
            return Presence(left, known)
        inside = not self._takes("name", "not")
        if self._takes("name", "in"):
            return Member(left, self._choices(), inside)
        kind, sign, _ = self._peek()
        if not inside or kind != "sign" or sign not in COMPARE:
            self._fail("expected a comparison (>=, <, ==, in, is missing)")
        self._at += 1
        if self._takes("name", "quantile"):
            self._needs("sign", "(")
            percent = self._token("percent", "a share such as 5%")
            self._needs("sign", ")")
            if not 0 <= percent <= 100:
                self._fail("a share lies between 0% and 100%", self._tokens[self._at - 2][2])
            return Comparison(left, sign, Quantile(percent))
        return Comparison(left, sign, self._value(word=True))

    def _value(self, *, word: bool = False) -> Value:
        kind, value, place = self._peek()
        if kind in ("number", "text"):
            self._at += 1
            return Constant(value)
        if kind != "name":
            self._fail("expected a column or a number")
        self._at += 1
        if value in REDUCE and self._takes("sign", "("):
            parts = [*self._named(*self._name())]
            while self._takes("sign", ","):
                parts += self._named(*self._name())
            self._needs("sign", ")")
            return Reduced(value, tuple(dict.fromkeys(parts)))
        if word and self._meant(value) is None and "." not in value:
            return Constant(value)
        found = self._named(value, place)
        if len(found) > 1:
            self._fail(f"{value} are {len(found)} columns: say max({value}), min or mean", place)
        return found[0]

    def _name(self) -> tuple[str, int]:
        place = self._peek()[2]
        return self._token("name", "a column"), place

    def _named(self, name: str, place: int) -> list[Column]:
        if "*" in name:
            found = fnmatch.filter(self._columns, name)
            if not found:
                self._fail(f"no column is called {name}", place)
            return [Column(one) for one in sorted(found)]
        meant = self._meant(name)
        if meant is None:
            import difflib

            near = difflib.get_close_matches(name, self._columns, n=3)
            self._fail(f"there is no column {name}" + (f", did you mean {', '.join(near)}?" if near else ""), place)
        return [Column(meant)]

    def _meant(self, name: str) -> str | None:
        return next((one for one in (name, f"iqa.{name}") if one in self._columns), None)

    def _choices(self) -> tuple[float | str, ...]:
        self._needs("sign", "[")
        out: list[float | str] = []
        while not out or self._takes("sign", ","):
            kind, value, _ = self._peek()
            if kind not in ("number", "text", "name"):
                self._fail("expected a word or a number")
            self._at += 1
            out.append(value)
        self._needs("sign", "]")
        return tuple(out)

    def _peek(self) -> tuple[str, Any, int]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("end", "", len(self._text))

    def _takes(self, kind: str, value: str) -> bool:
        found = self._peek()[:2] == (kind, value)
        self._at += found
        return found

    def _needs(self, kind: str, value: str) -> None:
        if not self._takes(kind, value):
            self._fail(f"expected {value!r}")

    def _token(self, kind: str, what: str) -> Any:
        found, value, _ = self._peek()
        if found != kind:
            self._fail(f"expected {what}")
        self._at += 1
        return value

    def _fail(self, what: str, place: int | None = None) -> NoReturn:
        raise self._error(what, self._peek()[2] if place is None else place)

    def _error(self, what: str, place: int) -> UserError:
        return UserError(f"{self._text!r}, character {place + 1}: {what}", exit_code=2)


def _written(value: float | str) -> str:
    return f"{value:g}" if isinstance(value, float) else value


def _known(values: Values) -> npt.NDArray[np.bool_]:
    if values.dtype == object:
        return np.array([value is not None and value == value for value in values.tolist()], bool)
    return ~np.isnan(values)


def numbers(values: Values, what: str) -> Values:
    """The values as float64. Raises UserError for text."""
    try:
        return np.array([np.nan if one is None else one for one in values.tolist()], np.float64)
    except ValueError:
        raise UserError(f"{what} is text: compare it with == or in [...]", exit_code=2) from None
