"""`modelyard get|watch|top|logs`, also as `kubectl modelyard`: what the status API knows, in a terminal.

It speaks to the status API where there is one, and to the cluster itself otherwise; both give the same rows.
"""
