"""A table of wrong losses and of the properties that catch each: it holds exactly, or its test is red."""

import pytest


class Table:
    """Rows are the names of wrong functions, columns those of checks without their ``check_``; an x is a catch."""

    def __init__(self, text, checks):
        self.header, *rows = [line.split() for line in text.strip().splitlines()]
        self.rows = {name: marks for name, *marks in rows}
        self.checks = checks

    def holds_for(self, name, wrong):
        marks = self.rows[name]
        assert "x" in marks, f"nothing catches {name}"
        for check, mark in zip(self.checks, marks, strict=True):
            if mark == "x":
                with pytest.raises(AssertionError):
                    check(wrong)
            else:
                check(wrong)

    def needs_every_column(self):
        assert [f"check_{column}" for column in self.header] == [check.__name__ for check in self.checks]
        for place, column in enumerate(self.header):
            assert any(marks[place] == "x" for marks in self.rows.values()), f"no mutant needs check_{column}"
