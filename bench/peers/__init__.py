"""What does the same function without sandbox or audit, each behind one Starlette endpoint."""
