WORD = "from a helper"
