"""The three resource kinds as types, and everything about them that is pure: names, conditions, quantities, sources.

Imports only `modelyard.plan` and the trainer's parameter classes. `crds/` and `docs/reference/` are generated from
here.
"""
