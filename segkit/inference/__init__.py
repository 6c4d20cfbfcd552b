"""Trained models that predict.

backend: the interface, from uint8 images to logits. torch_backend: PyTorch's. ensemble: several models as one. tta:
several views of an image. folding: BatchNorm into convolutions. ready: from checkpoints to backends. segmentation: what
a model says of one image. postprocess: rules per class that repair its mask. windows: images larger than the canvas, a
window at a time. predictor: one image of any size in, its class ids out.
"""
