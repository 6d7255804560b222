"""What the book's maintainers run: `python -m tools.execute_notebooks`, `python -m tools.set_repository`."""
