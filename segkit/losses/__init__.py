"""Losses over NCHW logits and class ids.

table: every loss by name, sums of them, and what training minimises.
cross_entropy: cross-entropy and focal loss, over pixels.
ohem: cross-entropy over each image's hard pixels.
pixel: the arithmetic of losses by pixel, with their gradient in closed form.
dice: soft Dice. tversky: Tversky, focal Tversky and Jaccard. mcc: Matthews correlation.
overlap: what those three are made of: sums by image and class, and means over both.
lovasz: Lovasz-softmax, the surrogate of IoU.
boundary: distances to the truth's regions.
rmi: region mutual information. distillation: class probabilities of a teacher.
class_weights: weights of the classes from their frequency (no torch).
"""
