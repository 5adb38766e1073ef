"""The `loopai` command: one module per group; heavy imports wait until a command needs them."""
