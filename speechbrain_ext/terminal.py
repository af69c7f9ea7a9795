"""Tables that a command shows: as wide as the terminal, and whole in a file or a pipe."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

_WIDEST = 1_000_000


def width_of(table: Table) -> int:
    """How many columns a table takes where none of its cells is cut or broken.

    Example
    -------
    >>> width_of(Table("system", "parameters"))
    23
    """
    console = Console()
    unlimited = console.options.update(max_width=_WIDEST)
    return console.measure(table, options=unlimited).maximum


def print_table(table: Table) -> None:
    """Print a table on standard output.

    On a terminal it keeps to its width. Elsewhere nobody knows a width, and nothing is cut.

    Arguments
    ---------
    table : Table
        The table.

    Example
    -------
    >>> print_table(Table("system", "EER %", box=None))  # doctest: +NORMALIZE_WHITESPACE
    system  EER %
    """
    console = Console()
    if not console.is_terminal:
        console = Console(width=max(console.width, width_of(table)))
    console.print(table)
