"""What lies on a disk or in a bucket.

layouts: which files make a data set. split_folders: where a split is. split_files: lists of names. listing: what a
folder holds, sound or not. unlabelled: images without masks. files: a file, or one inside another. images, masks: what
is in one. label_faults: masks of 0 and 255, ids from 1, soft edges. rasters: TIFFs larger than memory, by window.
reading: an image with its class ids. survey: training's look at every file. split, folds: divide a data set. shapes: a
data set to try things on. shards, shard_index: members of tar files. remote: shards behind a URL, fetched within a
budget. public/: data sets by name.
"""
