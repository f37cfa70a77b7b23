"""Models on disk: found, converted, told apart, and their tokenizers.

In: a model's name or folder. Out: a `ModelInfo`. Knows nothing of MLX but in `convert`.
"""
