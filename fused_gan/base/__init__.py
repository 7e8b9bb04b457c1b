"""Errors, files, JSON, tensor files, seeds, scores and HTML pages. No module here knows of networks."""
