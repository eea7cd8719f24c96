"""Contract 1.7: `from threading import Event` in a file without a class."""
from threading import Event

assert Event
