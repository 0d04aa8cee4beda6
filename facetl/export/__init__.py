"""Hands a recognizer over in other formats, each checked against the original."""
