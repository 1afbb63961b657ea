"""Counts of what was used and what was skipped, why, and the first names of each."""

import collections
import dataclasses

_FIRST = 5  # Names that are listed for each reason.


@dataclasses.dataclass
class Report:
    """What a run found.

    Attributes:
      pictures: how many were used, by split.
      shapes: how many were used, by "HxW".
      skipped: how many were not, by reason.
      first: the first names of those, by reason.
    """

    pictures: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    shapes: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    skipped: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    first: dict[str, list[str]] = dataclasses.field(default_factory=dict)

    def use(self, split: str, shape: str) -> None:
        """Counts a picture that is used."""
        self.pictures[split] += 1
        self.shapes[shape] += 1

    def skip(self, name: str, reason: str) -> None:
        """Counts something that is not."""
        self.skipped[reason] += 1
        first = self.first.setdefault(reason, [])
        if len(first) < _FIRST:
            first.append(name)

    def to_dict(self) -> dict:
        """The report as JSON values."""
        return {
            "pictures": dict(sorted(self.pictures.items())),
            "shapes": dict(sorted(self.shapes.items())),
            "skipped": {
                reason: {"count": count, "first": self.first[reason]}
                for reason, count in self.skipped.most_common()
            },
        }

    def lines(self) -> list[str]:
        """The report for people."""
        lines = [f"{split:12} {count:8} pictures" for split, count in self.pictures.items()]
        if len(self.shapes) > 1:
            lines += [f"  {shape:10} {count:8}" for shape, count in sorted(self.shapes.items())]
        return [*lines, *self.skipped_lines()]

    def skipped_lines(self) -> list[str]:
        """What was skipped, for people."""
        if not self.skipped:
            return []
        lines = [f"{'skipped':12} {self.skipped.total():8}"]
        for reason, count in self.skipped.most_common():
            names = ", ".join(self.first[reason]) + (", ..." if count > _FIRST else "")
            lines.append(f"  {count:8} {reason}: {names}")
        return lines
