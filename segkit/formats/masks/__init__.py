"""Formats of mask images: voc, cityscapes, ade20k, camvid, id_masks, color_masks, binary_masks.

pairing: which label belongs to which image. roles: which files are images and which are labels. color_table: files that
name colours.
"""
