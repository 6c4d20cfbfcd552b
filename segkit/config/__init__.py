"""One YAML file per experiment.

schema: the sections, their keys, what each means, its default, and whether it may change on resume or in eval.
data_sections, learning_sections: those of data and augment, of loss and optim. fields: what sections are made of.
keys: every key by its dotted name.
reading: load, override, check, write.
explain: mistakes in a user's words.
contradictions: settings without effect, and settings that exclude each other.
reference: the schema as configs/reference.yaml. editor: as configs/schema.json, by which editors complete and check.
space: what a search tries.
strict_yaml: YAML without traps.
"""
