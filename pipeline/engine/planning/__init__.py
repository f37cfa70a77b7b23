"""Which drafts are worth running: what steps cost, how far drafts survive, the plan of a step.

In: what rows could draft, times, what was accepted. Out: plans. Knows nothing of MLX.
"""
