"""Figures of a model on labelled images.

confusion: the matrix, and every score that derives from it. evaluate: a model over batches. validation: a model over a
set, as training, plan and the evaluation tool do it. protocol: how a score was made. overrides:
what may be changed of a trained model's config. bootstrap: intervals. tuning: rules of post-processing, tried on
predicted masks.
"""
