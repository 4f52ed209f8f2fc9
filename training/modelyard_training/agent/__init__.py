"""The agent: process 1 of a training pod, between Kubernetes and the program that trains.

It checks the inputs, starts the program, passes stop requests on, forwards its reports to the collector, and owns the
exit code and the termination message. It travels into images that are not ours, so it uses the standard library alone
and runs on Python 3.9 and newer, also from a zip file. Nothing outside this package is imported here.
"""
