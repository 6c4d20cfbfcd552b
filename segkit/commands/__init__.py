"""The commands, a file each: its arguments, one call, and what it prints.

A command is a module whose docstring begins with its help, with `add_arguments(parser)` and `run(arguments)`, which
returns the exit code; segkit/cli.py lists them. They import nothing heavy at the top, so that --help and a typo answer
at once.

train, plan, tune, plot_schedule, lr_find, eval, score, report, compare, suspects, rank, features, postprocess,
calibrate, export, bench, serve, summary, models,
predict, check, convert, download, split, demo: what is typed behind `segkit`.
words: settings among the words of a command line. output: what is printed, and by which rank. figures: options of the
commands that score.
"""
