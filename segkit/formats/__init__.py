"""Labels of other tools, read and written.

convert: the command. table: every format. sample: an image with its label, on its way. recognize: what a folder may
be. configured: a segkit config as a source. folders, shards: targets. documents: JSON and XML files of labels. values:
stored values of masks. vocabulary: class names and their ids. splits: names of splits. writing: what all targets share.
annotations/: polygons and run lengths. masks/: folders of masks. raster/: shapes to pixels and back.
"""
