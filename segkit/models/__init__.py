"""Models: uint8 pixels in, aligned logits out.

segmenter: the wrapper around every network. table: the architectures by name. lite_unet: an architecture for CPUs.
pretrained: weights to start from. checkpoint: what a run saves. depthwise: convolutions with a fast backward on CPUs.
resize: bilinear, deterministic and fast on GPUs. summary: what a model costs. group_norm: in place of BatchNorm.
initialise: how weights begin that are not pretrained.
"""
