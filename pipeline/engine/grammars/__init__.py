"""JSON schemas as grammars: what may come next, what must, and quotes that are words of a source.

In: a schema. Out: a matcher for each row. Knows nothing of MLX.
"""
