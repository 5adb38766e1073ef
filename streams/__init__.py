"""The bus: the contract that a service in any language can rely on. See docs/reference/bus.md."""
