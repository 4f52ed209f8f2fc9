"""A small hub of models and data sets for machines without the public one: tests, demonstrations, closed networks.

It speaks the Hugging Face Hub's own HTTP protocol as the stock `huggingface_hub` client (2.x) needs it, so that client
and everything built on it work unchanged. It is no part of the installed product.
"""
