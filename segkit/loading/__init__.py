"""Items become augmented uint8 batches.

augment/: what training does to an image and its mask. sampler: how often an image is seen. batch_plan: which samples
make a batch, in which order, on any number of ranks. training_set, evaluation_set: samples by key, for any DataLoader.
collate: samples side by side. loader: training's batches in order, by threads or by processes. workers: forked
processes. ring: batches in memory that they share. spawned: processes where there is no fork. cache: decoded pixels,
kept. prepare: the items of a run, examined before it.
"""
