"""Pixels and class ids as arrays.

resize, letterbox: onto the canvas of the network and back. argmax: class ids of logits. overlay: masks in colour.
codec: image files.
"""
