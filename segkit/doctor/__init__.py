"""`segkit check`: read every file of a data set once, and say what would spoil a training or its figures.

check: the command. measure: what is kept of each file. examination: all that was measured. findings/: the rules.
duplicates: equal and nearly equal images. guess_classes: classes of a folder that names none. statistics: summaries.
fix, label_maps: a repaired copy. page, text, templates/: what a reader sees.
"""
