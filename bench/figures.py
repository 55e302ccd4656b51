"""A measured figure: a median with its spread, a baseline, a ratio and a goal."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, NamedTuple


class Spread(NamedTuple):
    """The median of some values, with the lowest and the highest of them."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        ordered = sorted(values)
        return cls(statistics.median(ordered), ordered[0], ordered[-1])


class Goal(NamedTuple):
    """The limit that a figure must keep."""

    relation: Literal["≤", "≥"]
    value: float

    def reached(self, figure: float) -> bool:
        return figure <= self.value if self.relation == "≤" else figure >= self.value


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the results."""

    section: str
    what: str
    measured: Spread
    unit: str
    baseline: str
    """What the figure is compared with, in words."""
    baseline_value: float
    """The median of the baseline, in the same unit unless `baseline` says another."""
    ratio: float
    goal: Goal | None = None
    note: str = ""

    @property
    def outcome(self) -> str:
        """``ok`` or ``not``; empty if there is no goal."""
        if self.goal is None:
            return ""
        return "ok" if self.goal.reached(self.measured.median) else "not"


def ratio(figure: float, baseline: float) -> float:
    """The quotient; infinite if the baseline is zero."""
    return figure / baseline if baseline else float("inf")


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of the values lie, by the nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def markdown(lines: Sequence[Line]) -> str:
    """A table of the lines of one run."""
    rows = [
        "| what | measured | goal | baseline | ratio | |",
        "|---|---|---|---|---|---|",
    ]
    for line in lines:
        unit = f" {line.unit}" if line.unit else ""
        low, high = shown(line.measured.low), shown(line.measured.high)
        measured = f"**{shown(line.measured.median)}**{unit} ({low} to {high})"
        goal = f"{line.goal.relation} {shown(line.goal.value)}{unit}" if line.goal else ""
        what = f"{line.what} ({line.note})" if line.note else line.what
        rows.append(
            f"| {what} | {measured} | {goal} | {line.baseline} "
            f"| {shown(line.ratio)} | {line.outcome} |"
        )
    return "\n".join(rows)


def write_json(path: Path, machine: Mapping[str, object], lines: Sequence[Line]) -> None:
    """Write the machine and every row with its outcome as JSON."""
    rows = [{**_plain(line), "outcome": line.outcome} for line in lines]
    path.write_text(json.dumps({"machine": machine, "lines": rows}, indent=1) + "\n")


def shown(value: float) -> str:
    """Three significant digits, without an exponent."""
    if value == 0 or abs(value) >= 1_000:
        return f"{value:,.0f}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    if abs(value) >= 1:
        return f"{value:.2f}"
    return f"{value:.3f}"


def _plain(line: Line) -> dict[str, object]:
    row = asdict(line)
    row["measured"] = line.measured._asdict()
    row["goal"] = line.goal._asdict() if line.goal else None
    return row
