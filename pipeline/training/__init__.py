"""Training a DFlash drafter for a target, on this machine: `docflash train-drafter`.

    passages -> questions -> regenerate -> examples -> trainer -> export
                                              |           |
                                           features     walks (accepted tokens on held-out answers)

Only what computes imports mlx; records, passages and questions do not.
"""
