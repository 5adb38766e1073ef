"""What runs inside a cell: bound read-only into it, standard library only."""
