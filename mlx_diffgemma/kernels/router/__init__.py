"""The routing of few rows in one launch: the best experts of each, and their weights."""
