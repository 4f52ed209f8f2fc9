"""The collector: takes what running pods report, believes only the right ones, and passes it on at a bounded rate.

It is a process of its own because it serves requests under load, which kopf's event loop must not. It writes the
status fields that no other process writes (`progress`, `metrics`, `epochs`, `checkpoint.lastReported`), and keeps the
downloads' progress in memory for the operator to fetch.
"""
