"""The gate, and the engine as its benchmarks run it: whether drafts change a token, and the noise.

In: texts and settings. Out: tokens compared, divergences, a verdict.
"""
