"""The program of a download Job: brings a source's files into a volume, whole, verified, or not at all.

It runs in the user's namespace with the user's credentials and no Kubernetes rights. Its command line is that of the
Dataset loader, so one image serves our own data plane and the Dataset controller's Jobs.
"""
