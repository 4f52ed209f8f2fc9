"""The status API: what exists, how it stands, what it costs, live. Read-only REST and server-sent events.

A process of its own with its own caches. It writes nothing to the cluster but reviews (who asks, and may they), holds
no right on Secrets, and shows a caller what the caller's own rights show.
"""
