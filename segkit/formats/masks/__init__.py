"""Formats of mask images: voc, cityscapes, ade20k, camvid, id_masks, color_masks, binary_masks.

pairing: which mask belongs to which image. color_table: files that name colours.
"""
