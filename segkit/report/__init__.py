"""Figures as text, and as pages.

tables: scores, splits and folds for terminals and CSV. class_tables: how frequent classes are, and their weights.
rules_table: trials of post-processing rules. comparison_text: which of two models is better, in words and in a table.
page: report.html. comparison_page: compare.html. suspects_page: suspects.html. charts: curves and bars as SVG. gallery:
the images that are shown. trackers: where a training's figures go beside log.csv. tensorboard: what is added to it when
a run ends. plots: PNG files. text_plot: a curve in a terminal.
templates/: the pages themselves.
"""
