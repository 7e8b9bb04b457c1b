"""Errors, files, JSON, tensor files, memory, seeds, scores and HTML pages. No module here knows of networks."""
