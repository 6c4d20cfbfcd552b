"""Formats of polygons and run lengths: labelme, coco, coco_panoptic, yolo, cvat, labelstudio, supervisely, rle_csv.

coco_files: the JSON that coco and coco_panoptic share. labelme_shapes: labelme's kinds of shapes. image_folder: finds
the images that labels name.
"""
