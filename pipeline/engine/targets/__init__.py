"""The target model: its forward over ragged rows, its taps, and its one-launch kernels on a GPU.

In: tokens of rows. Out: logits, and hidden states for a drafter.
"""
