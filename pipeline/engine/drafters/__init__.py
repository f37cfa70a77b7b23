"""The DFlash drafter: its checkpoint, its forward, its Markov head, trees grown out of its blocks.

In: the target's hidden states, and the rows' last tokens. Out: blocks of tokens, or trees.
"""
