"""Labels of other tools, read and written.

convert: the conversion. table: every format. options: what a user may say. sample: an image with its class ids, in no
format. recognize: what a folder may be. configured: a config, or a folder that segkit trains from, as a source.
folders, shards: targets that segkit trains from. documents: JSON and text files of labels. values: stored values of
masks. vocabulary: class names and their ids. splits: names of splits. writing: what all targets share.
annotations/: polygons and run lengths. masks/: folders of masks. raster/: shapes to pixels and back.
"""
