"""Trained models that predict.

backend: the interface, from uint8 images to logits. torch_backend: PyTorch's. ensemble: several models as one. folding:
BatchNorm into convolutions. segmentation: what a model says of one image. ready: from checkpoints to backends.
predictor: one image of any size in, its class ids out. windows: images larger than the canvas, a window at a time.
"""
