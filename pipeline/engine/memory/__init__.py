"""Keys, values and recurrent states of rows: where they lie, are moved to and are taken back from.

In: rows, and how many tokens each has run. Out: what attention reads and writes.
"""
