"""Data sets that the book works with, one module each: fetched, checked, split."""
