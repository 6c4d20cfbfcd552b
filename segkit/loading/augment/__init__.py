"""Augmentation: a list of steps, drawn once per sample.

geometric: where an image comes to lie on the canvas. warp: the one resampling that image and mask share. photometric:
what colour pixels have. matrices: turned and slanted canvases. tones: brightness and the like. degrading: blur, noise,
JPEG. mixing: several images in one. pipeline: the table of steps, the list of a run, and how it is applied.
"""
