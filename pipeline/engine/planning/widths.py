"""How many tokens of a row a verify runs: its last one, and a draft."""

WIDTHS = (1, 2, 4, 8, 16, 32)
CHAIN_WIDTHS = WIDTHS[:-1]
"""Wider ones have room for large trees, which is all that they are for."""
