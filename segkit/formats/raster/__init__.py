"""Shapes to pixels and back.

polygons: fill. contours: trace. drawing: the shapes of an annotation. runs: run-length codes.
"""
