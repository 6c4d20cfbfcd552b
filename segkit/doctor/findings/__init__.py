"""The rules of `segkit check`.

files: files that can't be read or aren't what they seem. labels: values of masks. splits: splits and sets, and the
table of all findings.
"""
