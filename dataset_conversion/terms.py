"""Who made a data set, how to get it and on which terms it may be used."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Terms"]


@dataclass(frozen=True)
class Terms:
    """Terms of use of a source.

    Args:
        name: Short name of the data set.
        content: What it consists of.
        release: Which release is read.
        access: How to get it.
        license: What one may do with it.
        reference: Address or DOI of the data set.
        citations: What to cite.
        paper_cases: How many cases Huang et al. 2024 took from it.
    """

    name: str
    content: str
    release: str
    access: str
    license: str
    reference: str
    citations: tuple[str, ...]
    paper_cases: int

    def as_text(self) -> str:
        """Return the terms as lines for the terminal."""
        rows = [
            ("content", self.content),
            ("access", self.access),
            ("terms", self.license),
            *(("cite", citation) for citation in self.citations),
        ]
        lines = [self.name, *(f"  {title:<8} {text}" for title, text in rows)]
        return "\n".join(lines)
