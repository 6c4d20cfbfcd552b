"""One YAML file per experiment.

schema: the sections and their keys. reading: load, override, check, explain, write. strict_yaml: YAML without traps.
"""
