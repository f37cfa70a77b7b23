"""Verify and accept: one forward over the rows' drafts, and how far each of them holds.

In: rows and drafts. Out: the tokens that each row gained, as the target alone would write them.
"""
