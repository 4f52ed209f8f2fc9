"""Model: each version in a volume, what is said about it, and a safe way out. Pure.

`view` is what a decision sees, `fetched` and `saved` decide about one version each, `status` sums them up, `decision`
puts it all in order.
"""
