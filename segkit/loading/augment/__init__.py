"""Augmentation.

geometric: where pixels go. photometric: what colour they have. pipeline: the steps of a run, and how they are applied.
"""
