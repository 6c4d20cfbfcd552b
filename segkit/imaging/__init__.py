"""Pixels and class ids as arrays.

resize, letterbox: onto the canvas of the network and back. argmax: class ids of logits. overlay: masks in colour.
codec: image files. png_rows: PNGs written row by row. tiles: windows over what is larger than the canvas.
"""
