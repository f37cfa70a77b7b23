"""The inference engine. The only room, with `pipeline.training`, that imports mlx.

Callers use `pipeline.engine.client` and `pipeline.engine.interface`, neither of which loads mlx.
"""
