"""Figures as text.

tables: scores, splits and folds for terminals and CSV. class_tables: how frequent classes are, and their weights.
rules_table: trials of post-processing rules.
"""
