"""Items become augmented uint8 batches.

augment/: what training does to an image and its mask. sampler: how often an image is seen. batch_plan: which samples
make a batch. training_set, evaluation_set: samples by key. collate: samples side by side. loader: batches in order,
by threads or by workers (processes). cache: decoded pixels, kept. prepare: the items of a run, looked at before it.
"""
