"""
title: Redact
description: Takes e-mail addresses and card numbers out of what goes to a model, and out of what comes back.
version: 1.0.0
"""

import re

from pydantic import BaseModel, Field

EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
#: 13 to 19 digits, in groups or not; only those whose check digit is right are card numbers.
DIGITS = re.compile(r"(?<![\w.])\d(?:[ -]?\d){12,18}(?!\w)")


class Filter:
    class Valves(BaseModel):
        priority: int = Field(default=-10, description="Filters run in this order, lowest first.")
        emails: bool = Field(default=True, description="Take out e-mail addresses.")
        cards: bool = Field(default=True, description="Take out card numbers.")
        placeholder: str = Field(default="[{kind} removed]", description="What stands in their place; {kind} names it.")

    def __init__(self) -> None:
        self.valves = self.Valves()
        #: Users switch it on for a chat.
        self.toggle = True

    def inlet(self, body: dict) -> dict:
        return self.redact_messages(body)

    def outlet(self, body: dict) -> dict:
        return self.redact_messages(body)

    def redact_messages(self, body: dict) -> dict:
        for message in body.get("messages", []):
            content = message.get("content")
            if isinstance(content, str):
                message["content"] = self.redact(content)
            for part in content if isinstance(content, list) else ():
                if part.get("type") == "text":
                    part["text"] = self.redact(part["text"])
        return body

    def redact(self, text: str) -> str:
        if self.valves.emails:
            text = EMAIL.sub(self.placeholder("e-mail address"), text)
        if self.valves.cards:
            card = self.placeholder("card number")
            text = DIGITS.sub(lambda match: card if has_check_digit(match[0]) else match[0], text)
        return text

    def placeholder(self, kind: str) -> str:
        return self.valves.placeholder.replace("{kind}", kind)


def has_check_digit(number: str) -> bool:
    """Whether the last digit is the one that the others call for (the Luhn sum)."""
    digits = [int(character) for character in reversed(number) if character.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0
