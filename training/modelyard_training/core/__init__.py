"""The part that is the same for every recipe: loop, checkpoint, stop, report, data, export.

`python -m modelyard_training.core` is the program that the agent starts. A recipe gives model, data, loss and metrics
(`task.Task`); nothing here knows a recipe but `__main__`, which looks it up.
"""
