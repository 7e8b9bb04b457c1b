"""Pieces that know nothing of networks: errors, files, JSON, tensor files, seeds, scores, HTML pages."""
