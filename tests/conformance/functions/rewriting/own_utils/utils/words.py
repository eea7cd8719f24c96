WORD = "its own"
