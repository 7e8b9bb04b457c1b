"""What several test files share. The setting `pythonpath` in pyproject.toml makes it importable for pytest."""
