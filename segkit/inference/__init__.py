"""Trained models that predict.

backend: logits of a batch. folding: BatchNorm into convolutions. ensemble: several models as one. ready: from
checkpoints to models on a device. predictor: one image of any size in, its class ids out.
"""
