"""What the ways to open the state database share: the form of its URL, and the hints when that fails."""

#: What a URL of a SQLite file begins with; a fourth slash begins an absolute path.
SQLITE = "sqlite:///"
UNREACHABLE = "see that its folder is writable and its disk not full"
DAMAGED = "put a copy of it back, or move it away and create users and tokens anew"
