"""Webhooks: who is told of what, how it is signed, and which addresses may be called."""
