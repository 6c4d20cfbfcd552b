"""Losses over NCHW logits and class ids.

table: every loss by name, sums of them, and what training minimises. cross_entropy: cross-entropy and focal loss. dice:
soft Dice. pixel: the arithmetic of losses by pixel, with their gradient in closed form. class_weights: weights of the
classes from their frequency (no torch).
"""
