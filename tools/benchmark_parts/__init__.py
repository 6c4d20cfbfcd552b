"""The parts of tools/benchmark.py.

timing: how variants of one thing are timed. inputs: files and networks to measure on. data: loading. training: losses
and steps. prediction: inference, the way back to the original size, evaluation, the confusion matrix. start: how soon a
command answers. video: from file to file, and smoothing.
"""
