"""Public data sets by name.

catalog: which sets exist, and where. download: the command. fetch: one file over HTTP, resumed. unpack: archives, whose
contents are not trusted. arrange: from what was unpacked to a layout for training.
"""
