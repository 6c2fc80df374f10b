"""Commands that spend money: what they show before, and what they write after."""
