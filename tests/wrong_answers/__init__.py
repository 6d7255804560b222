"""Wrong answers as readers write them, each with a phrase that its hint must have."""

from importlib import import_module

WRONG = {
    name: answers
    for chapter in range(1, 10)
    for name, answers in import_module(f".chapter_{chapter:02d}", __name__).WRONG.items()
}
