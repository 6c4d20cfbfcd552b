"""The parts of `segkit predict` (segkit/predict.py): what it reads, and what it writes.

job: what is predicted, and where it goes. inputs: which images a source means. names: those of outputs. stages: load |
segment | save. clock: where the time goes. fleet: many processes and machines, by Ray. rows: predictions.csv. outputs:
what an output is. table: all of them. pixel_outputs: images and arrays; vector_outputs: polygons, a file per image;
joined_outputs: one file about all images. cells: what spreadsheets may read. strips: huge images, a strip at a time.
video: frames in and out; video_job: a whole video; smoothing: against flicker.
"""
