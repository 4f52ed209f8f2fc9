"""One module a family: `build(run)` makes the task that the loop trains. Looked up by `core.__main__`, one imported."""
