"""Which token is chosen at a position: masks, penalties, bias, then the best or a seeded draw.

In: logits, and what shapes them. Out: tokens. Knows nothing of rows or drafts.
"""
