"""The machine under a run, and its peers.

device: device, precision, seeds (torch). machine: cores and threads, memory, disk, the cache folder (no torch).
process: quick imports, a quick end (no torch). ranks: peer processes. sharding: models sharded over ranks. signals:
Ctrl-C and SIGTERM as a flag. files: writes that outlive a crash, locks, remembered JSON. threads: a bounded map over
threads. progress: the one progress bar. logs: loggers muted for a while.
"""
