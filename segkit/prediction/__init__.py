"""The parts of `segkit predict` (segkit/predict.py): what it reads, and what it writes.

outputs: what an output is, and the table of them. strips: huge images to files, with bounded memory.
"""
