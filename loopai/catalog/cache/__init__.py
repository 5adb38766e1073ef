"""Program texts near those who need them: in the process, in Redis, in the store (ADR 0018)."""
