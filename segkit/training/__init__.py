"""What a training run needs beside its loop.

optim, schedule, ema: the optimizer, its rate, the average of the weights. resume: may this run continue? divergence:
losses that became NaN. saver: checkpoints written in the background. run_folder: the files of a run. console: what a
run prints. profile: where its time went.
"""
