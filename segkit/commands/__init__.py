"""A file per command: check, convert, demo, download, eval, plan, predict, split, train.

A command is its arguments, one call, and what it prints: a docstring whose first line is its help,
`add_arguments(parser)`, and `run(arguments)`, which returns the exit code. `COMMANDS` in segkit/cli.py lists them. They
import nothing heavy at the top, so that --help and a typo answer at once.

words: settings among the words of a command line. output: what is printed, and by which rank.
"""
