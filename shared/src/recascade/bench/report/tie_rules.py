"""The same data under different tie rules, side by side: what is fact and what is the order of a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from recascade.bench.report.board import Board
from recascade.bench.report.entry import EntryKey, Value
from recascade.bench.report.report import Report
from recascade.bench.report.rules import Rules


@dataclass(frozen=True)
class TieRuleTable:
    """Boards that differ in nothing but their tie rule.

    Attributes:
        data: name of the data set.
        boards: one column each; columns are different splits, so nothing is computed across them.
        keys: one row each, for the configurations that are in all boards.
    """

    data: str
    boards: Sequence[Board]
    keys: Sequence[EntryKey]

    def rows(self, metric: str) -> list[tuple[str, list[Value | None]]]:
        """Label of each configuration and its value on each board, best on the first board first."""
        columns = [{entry.key: entry for entry in board.shown} for board in self.boards]
        order = [entry for entry in self.boards[0].ranked(metric) if entry.key in self.keys]
        return [(entry.label, [column[entry.key].value(metric) for column in columns]) for entry in order]


def tie_rule_tables(report: Report) -> list[TieRuleTable]:
    """One table for each data set and set of other rules that has boards under several tie rules."""
    groups: dict[tuple[str, Rules], list[Board]] = {}
    for board in report.boards:
        others = replace(board.rules, fingerprint="", ties="")
        groups.setdefault((board.data["fingerprint"], others), []).append(board)
    tables = []
    for boards in groups.values():
        keys = set.intersection(*({entry.key for entry in board.shown} for board in boards))
        if keys and len({board.rules.ties for board in boards}) > 1:
            tables.append(TieRuleTable(boards[0].data["name"], boards, sorted(keys)))
    return tables
