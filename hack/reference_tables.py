"""Markdown tables of the generated pages."""

from collections.abc import Iterable

__all__ = ["table"]


def table(head: Iterable[str], rows: Iterable[tuple[str, ...]], *, code_first: bool = True) -> list[str]:
    """A Markdown table; the first cell of each row is code unless said otherwise."""
    titles = list(head)
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    for first, *rest in rows:
        cells = [f"`{first}`" if code_first else first, *rest]
        lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    return lines
