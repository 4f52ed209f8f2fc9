"""The operator's way to the API server: client, store, work queue, watch feed, re-list, reads, apply, lease."""
