"""Losses over NCHW logits and class ids.

table: every loss, and sums of them. pixel: cross-entropy and focal loss with their gradient in closed form.
class_weights: weights of the classes from their frequency.
"""
