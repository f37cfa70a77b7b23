"""What the one-launch kernels of an NVIDIA GPU have in common; their source lies beside.

In: sizes. Out: kernels, and what they are told. On other devices nothing of it is used.
"""
