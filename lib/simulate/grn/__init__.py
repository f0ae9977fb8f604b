"""Gene regulatory networks: given as a table or drawn, and what they make of molecules."""

from lib.simulate.grn.drawn import balanced, draw
from lib.simulate.grn.network import GRN
from lib.simulate.grn.table import from_table

__all__ = ["GRN", "balanced", "draw", "from_table"]
