"""Looks at a data set and a base model before a run, on the CPU, as the trainer will see them.

`__main__` is the pod's program, `look` chooses what is looked at, `tables` looks at tables, `suggest` draws
conclusions, `report` tells. Nothing here imports torch.
"""
