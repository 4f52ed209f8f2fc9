"""Training: one training run, as spec (what a user asks for) and status (what became of it)."""
