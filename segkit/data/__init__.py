"""Data: a folder on disk becomes items, items become pixels and class ids, and those become batches.

layouts: where the files are. images, masks: what is in one file. augment: what training does to them.
dataset: samples, batches and their order. doctor: is this data set sound? shapes: a data set to try things on.
"""
