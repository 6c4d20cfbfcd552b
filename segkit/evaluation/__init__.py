"""Figures of a model on labelled images.

confusion: the matrix, and every score that derives from it. evaluate: a model over batches. validation: a model over a
set, as training, plan and the evaluation tool do it. protocol: how a score was made. overrides: what may be changed of
a trained model's config. tuning: rules of post-processing, tried on predicted masks.
temperature: what logits are divided by, fitted.

measurement: every figure in one pass, and what each image adds. families: the table of figures beside the confusion
matrix. judged: one image as they see it. components: objects of a class. bootstrap: intervals. comparison: whether two
models differ. conventions: what other protocols would report. label_errors: regions that are
probably labelled wrong. boundary, contours, objects, detections, calibration,
precision_recall: a family each.
"""
