"""Formats of polygons and run lengths: labelme, coco, coco_panoptic, yolo, cvat, labelstudio, supervisely, rle_csv.

coco_files: the JSON that coco and coco_panoptic share. image_folder: where their images are.
"""
