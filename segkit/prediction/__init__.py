"""The parts of `segkit predict` (segkit/predict.py): what it reads, and what it writes.

inputs: which images a source means. names: those of outputs. stages: load | segment | save. clock: where the time goes.
outputs: what an output is, and the table of them. rows: predictions.csv. cells: what spreadsheets may read.
"""
