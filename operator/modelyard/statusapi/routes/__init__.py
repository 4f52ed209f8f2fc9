"""The paths: what each takes, which right it needs, what it answers with."""
