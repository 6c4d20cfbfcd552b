"""What a training run needs beside its loop.

setup: everything before the first step. state: what changes from step to step. requests: asked between two steps, to
stop, to save, to give up. saver: which checkpoint is written first, in the background, and repaired. optim, schedule,
ema: the optimizer, its rate, the average of the weights. range_test: which rate to begin with. freezing: which
parameters train when. resume: may this run continue? distillation: a teacher. self_training: one of a run's own
weights. divergence: losses that became non-finite. amend: what is written into a checkpoint after training. run_folder:
the files of a run. console: what a run prints. profile: where its time went.
"""
