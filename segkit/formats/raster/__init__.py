"""Shapes to pixels and back.

polygons: fill. contours: trace. drawing: all shapes of an annotation. runs: run lengths.
"""
