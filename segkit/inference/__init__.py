"""Trained models that predict.

backend: the interface, from uint8 images to logits. trained: models as their files say, opened and made ready. ready:
checkpoints as PyTorch's backends. torch_backend: one of them. ensemble: several as one. folding: BatchNorm into
convolutions. exported: models in other formats, and which runtime computes each. onnx_backend, openvino_backend,
program_backend: a runtime each, the last of torch.export. program_guard: refuses archives that could run code. tta:
several views of an image. segmentation: what a model says of one image. postprocess: rules per class that repair its
mask. temperature: probabilities that say how often the model is right. windows: images larger than the canvas, a window
at a time. predictor: one image of any size in, its ids out. uncertainty: how unsure a model is of an image. features:
what a layer makes of it.
"""
