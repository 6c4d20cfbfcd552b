"""Figures of a model on labelled images.

confusion: the matrix, and every score that derives from it. evaluate: a model over a set. validation:
what training scores and shows of it. bootstrap: intervals.
"""
