"""The API over gRPC (ADR 0026). Imported where it is served, and nowhere else: it is an extra."""
