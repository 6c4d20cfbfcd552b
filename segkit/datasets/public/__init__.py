"""Public data sets by name.

catalog: what there is, and where. download: the command. fetch: one file over http, resumed. unpack: archives, refused
where they leave their folder. arrange: from what was unpacked to a layout that trains.
"""
