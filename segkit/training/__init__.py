"""What a training run needs beside its loop.

setup: everything before the first step. state: what changes while a run trains. requests: stop, save or diverged, asked
of all ranks. optim, schedule, ema: the optimizer, its rate, the average of the weights. resume: may this run continue?
divergence: losses that became NaN. saver: checkpoints written in the background. run_folder: the files of a run.
console: what a run prints. profile: where its time went.
"""
