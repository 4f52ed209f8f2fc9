"""Data planes: how a version's files get into a volume. Desired objects and observed stage, pure.

`native` makes a claim and download Jobs of our own. A data plane imports no decision; the words between them are in
`modelyard.resources.volumes`.
"""
