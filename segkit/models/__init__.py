"""Models: uint8 pixels in, aligned logits out. segmenter: the wrapper around every network. table: the architectures
by name. weights: pretrained encoders."""
