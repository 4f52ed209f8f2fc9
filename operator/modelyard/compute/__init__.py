"""Where an attempt of a Training runs: the objects that it is made of, and what is observed of them. Pure."""
